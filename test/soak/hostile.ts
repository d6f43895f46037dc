// Rounds of hostile clients before hostile upstreams, each with another seed and setup, until the time is over. It ends at the first
// thing that is wrong; its seed, setup and host repeat it as far as the network lets the same bytes meet.
//
//   node --import tsx test/soak/hostile.ts [seconds, 300 unless told otherwise] [seed]
import { hostsByProtocol } from '../support/front.ts'
import { hostileRound, setups } from '../support/hostile-rounds.ts'
import { collectGarbage } from '../support/memory.ts'

const seconds = Number(process.argv[2] ?? 300)
const first = Number(process.argv[3] ?? Date.now() % 1_000_000)

if (!(seconds > 0 && Number.isInteger(first))) {
  console.error('The seconds must be a number above 0, the seed a whole number')
  process.exit(1)
}

let current = ''
let visits = 0
process.on('uncaughtException', (error) => stop(error))
process.on('unhandledRejection', (error) => stop(error))

const deadline = Date.now() + seconds * 1000
for (let seed = first; Date.now() < deadline; seed += 1) {
  for (const host of hostsByProtocol) {
    for (const [setup, options] of Object.entries(setups)) {
      if (Date.now() > deadline) break
      current = `seed ${seed}, ${setup} (${host})`
      const foreign = await hostileRound({ options, host, seed, visits: 100, atOnce: 25 }).catch((error) => stop(error))
      if (foreign.length > 0) stop(new Error(`got what was another's: ${foreign.slice(0, 10)}`))
      visits += 100
    }
  }
  for (let times = 0; times < 3; times += 1) collectGarbage()
  const { heapUsed, external, rss } = process.memoryUsage()
  console.log(`seed ${seed}: ${visits} visits, heap ${inMiB(heapUsed + external)}, rss ${inMiB(rss)}`)
}
console.log('all is well')
process.exit(0)

function stop(error: unknown): never {
  console.error(current, error)
  process.exit(1)
}

function inMiB(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
