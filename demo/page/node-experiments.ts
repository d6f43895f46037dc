// Three nodes of one app with one feed, of which the one that reads the upstream for all is killed and started again.
import type { FeedResult, NodesResult } from '../experiments/nodes.ts'
import { ask } from './ask.ts'
import type { Experiment, Verdicts } from './experiment-list.ts'
import { seconds, type Verdict } from './verdicts.ts'

export const nodeExperiments: readonly Experiment[] = [
  {
    id: 'kill-node',
    button: 'Kill a node',
    what: 'Three processes share one upstream connection by way of Redis. The one that holds it gets a SIGKILL; clients of the others must not notice.',
    run: async () => verdicts(await ask('kill-node'), ({ node, owner }) => `${node} is dead, ${owner} reads for all`),
  },
  {
    id: 'start-node',
    button: 'Start it again',
    what: 'The node that was killed comes back, with clients of its own.',
    run: async () =>
      verdicts(
        await ask('start-node'),
        ({ node, owner, startMs }) => `${node} is back after ${seconds(startMs)}, ${owner} reads for all`,
      ),
  },
]

type Measured = Exclude<NodesResult, { readonly impossible: string }>

function verdicts(result: NodesResult, describe: (result: Measured) => string): Verdicts {
  if ('impossible' in result) {
    return { proxied: { good: undefined, text: result.impossible }, plain: { good: undefined, text: 'Not tried.' } }
  }
  return { proxied: judgeFeed(result.proxied, `${describe(result)}: `), plain: judgeFeed(result.plain) }
}

/** Good is what loses nothing, and does not ask the upstream once for each client. */
function judgeFeed(
  { clients, stayed, silenceMs, missed, repeated, upstream }: FeedResult,
  happened: string = '',
): Verdict {
  const cut = clients - stayed
  const who = cut === 0 ? `all ${clients} clients stayed` : `${stayed} clients stayed, ${cut} came back`
  const lost = missed + repeated === 0 ? 'no event missing' : `${missed} events missing, ${repeated} twice`
  return {
    good: missed + repeated === 0 && upstream === 1,
    text: `${happened}${who}, ${lost}, longest pause ${seconds(silenceMs)}; ${upstream} upstream ${upstream === 1 ? 'connection' : 'connections'}.`,
  }
}
