// Three nodes of one app with one feed, of which the one that reads the upstream for all is killed and started again.
import type { FeedResult, NodesResult } from '../experiments/nodes.ts'
import { ask } from './ask.ts'
import type { Experiment, Verdicts } from './experiment-list.ts'
import { seconds, sentence, type Verdict } from './verdicts.ts'

export const nodeExperiments: readonly Experiment[] = [
  {
    id: 'kill-node',
    button: 'Kill a node',
    what: 'Three processes share one upstream connection through Redis. The one that holds it gets a SIGKILL; clients of the other two must not notice.',
    run: async () => verdicts(await ask('kill-node'), ({ node, owner }) => `${node} died, ${owner} took over: `),
  },
  {
    id: 'start-node',
    button: 'Start it again',
    what: 'The node that was killed comes back, with clients of its own.',
    run: async () =>
      verdicts(
        await ask('start-node'),
        ({ node, owner, startMs }) => `${node} is back after ${seconds(startMs)} and follows ${owner}: `,
      ),
  },
]

type Measured = Exclude<NodesResult, { readonly impossible: string }>

function verdicts(result: NodesResult, describe: (result: Measured) => string): Verdicts {
  if ('impossible' in result) {
    return { proxied: { good: undefined, text: result.impossible }, plain: { good: undefined, text: 'Not tried.' } }
  }
  return { proxied: judgeFeed(result.proxied, describe(result)), plain: judgeFeed(result.plain) }
}

/** Good is what loses nothing, disturbs no client of another node, and asks the upstream once and not for each client. */
function judgeFeed(
  { clients, orphans, stayed, silenceMs, missed, repeated, upstream }: FeedResult,
  happened: string = '',
): Verdict {
  const cut = clients - stayed
  const who =
    cut === 0 ? `all ${clients} clients stayed connected` : `${stayed} clients stayed connected, ${cut} reconnected`
  const lost = missed + repeated === 0 ? 'no event missing' : `${missed} events missing, ${repeated} twice`
  return {
    good: missed + repeated === 0 && stayed === clients - orphans && upstream === 1,
    text: sentence(
      `${happened}${who}, ${lost}, longest pause ${seconds(silenceMs)}; ${upstream} upstream ${upstream === 1 ? 'connection' : 'connections'}`,
    ),
  }
}
