// Texts of any characters there are. fast-check's own unit 'binary' makes a table of a million of them first, which takes a
// second.
import fc from 'fast-check'

// Those from here on in UTF-16 are halves of characters.
const [firstHalf, halves] = [0xd800, 0x800]

const character = fc
  .oneof(fc.nat(0x7f), fc.nat(0x10ffff - halves))
  .map((number) => String.fromCodePoint(number < firstHalf ? number : number + halves))

export function anyText(constraints: fc.ArrayConstraints = {}): fc.Arbitrary<string> {
  return fc.array(character, constraints).map((characters) => characters.join(''))
}
