// Says where in the source something is that a text names by its place in a compiled file. Node does so too where it is told,
// and then reads the map of each file as it loads it: a quarter of what a short test process computes.
import { readFileSync } from 'node:fs'
import { SourceMap } from 'node:module'
import { dirname, resolve } from 'node:path'

const compiledPlace = /(?:file:\/\/)?(\/[^\s():]+\.mjs):(\d+):(\d+)/g
const maps = new Map<string, SourceMap | undefined>()

export function inSource(text: string): string {
  return text.replace(compiledPlace, (place, path: string, line: string, column: string) => {
    const origin = mapOf(path)?.findOrigin(Number(line), Number(column))
    return origin !== undefined && 'fileName' in origin
      ? `${resolve(dirname(path), origin.fileName)}:${origin.lineNumber}:${origin.columnNumber}`
      : place
  })
}

function mapOf(path: string): SourceMap | undefined {
  if (!maps.has(path)) maps.set(path, readMap(path))
  return maps.get(path)
}

/** Undefined where there is none, as for what was not compiled. */
function readMap(path: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(`${path}.map`, 'utf8')))
  } catch {
    return undefined
  }
}
