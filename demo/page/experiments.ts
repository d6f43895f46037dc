// What can be broken, and how the outcome is told. Kill, restart and drain are judged on the page's own two lanes; the
// others are measured by the app with clients of its own.
import { firstEventMs, firstTokenMs, idleLimitMs } from '../experiments/patience.ts'
import { ask } from './ask.ts'
import { type Chat, complete } from './chat.ts'
import type { Experiment, Verdicts } from './experiment-list.ts'
import type { Lane } from './lane.ts'
import { pause } from './pause.ts'
import { judge, judgeCrowd, judgeDrain, megabytes, seconds, type Verdict } from './verdicts.ts'

export interface Stage {
  readonly proxied: Lane
  readonly plain: Lane
  readonly chat: Chat
  readonly ensureUser: () => Promise<void>
  readonly chatTokens: () => Promise<number>
}

export function experiments(stage: Stage): readonly Experiment[] {
  return [
    {
      id: 'kill',
      button: 'Kill mid-event',
      what: 'The upstream dies with half an event on its way. The counter has to go on without a gap.',
      run: () => onLanes(stage, () => ask('kill'), 4500),
    },
    {
      id: 'restart',
      button: 'Restart all upstreams',
      what: 'Every backend is gone for four seconds, as in a deployment without care.',
      run: () => onLanes(stage, () => ask('restart'), 1500),
    },
    {
      id: 'drain',
      button: 'Drain',
      what: 'The app itself is replaced by a new instance. Its streams have to end well and come back.',
      run: () => onLanes(stage, () => ask('drain'), 3500, judgeDrain),
    },
    {
      id: 'silence',
      button: 'Go silent',
      what: `Nothing to tell for a while, behind a load balancer that cuts idle connections after ${seconds(idleLimitMs)} (60 s is usual).`,
      choices: {
        label: 'How long',
        options: [
          ['6', 'for 6 s'],
          ['10', 'for 10 s'],
          ['30', 'for 30 s'],
          ['60', 'for a minute'],
        ],
      },
      run: (choice) => silence(stage, Number(choice)),
    },
    {
      id: 'crowd',
      button: 'Open 500 clients',
      what: 'All want the same stream. This package may share one upstream connection among them.',
      run: crowd,
    },
    {
      id: 'stop-reading',
      button: 'Stop reading',
      what: 'A client takes nothing more of a fast stream, but stays: a laptop that was closed.',
      run: stopReading,
    },
    {
      id: 'chat',
      button: 'Chat, stop midway',
      what: 'A POST behind express.json() streams a model’s answer; the reader leaves after 15 tokens.',
      run: () => chatAndStop(stage),
    },
    {
      id: 'sticky',
      button: 'Come back six times',
      what: 'Two backends keep users in their memory: who comes back has to meet the same one.',
      run: async () => {
        await stage.ensureUser()
        return await sticky()
      },
    },
    {
      id: 'compression',
      button: 'Put compression() in front',
      what: 'How long a browser, which takes gzip, waits for the first event.',
      run: compression,
    },
  ]
}

/** Does something to both lanes, looks on for a while afterwards, and judges what they have seen. */
async function onLanes(
  { proxied, plain }: Stage,
  act: () => Promise<unknown>,
  afterMs: number,
  judgeProxied: typeof judge = judge,
): Promise<Verdicts> {
  await Promise.all([proxied.whenLive(), plain.whenLive()])
  const records = [proxied.record(), plain.record()] as const
  await act()
  await pause(afterMs)
  return { proxied: judgeProxied(records[0].stop()), plain: judge(records[1].stop()) }
}

async function silence({ proxied, plain }: Stage, forSeconds: number): Promise<Verdicts> {
  await Promise.all([proxied.whenLive(), plain.whenLive()])
  const records = [proxied.record(), plain.record()] as const
  const result = await ask('silence', { seconds: forSeconds })
  const [ours, theirs] = [records[0].stop(), records[1].stop()]
  const tell = ({ cutAfterMs }: { cutAfterMs: number | null }, comments: number): Verdict => ({
    good: cutAfterMs === null,
    text:
      cutAfterMs === null
        ? `The connection held: ${comments} keepalive comments in ${forSeconds} s.`
        : `Not a byte; cut by the load balancer after ${seconds(cutAfterMs)}.`,
  })
  return { proxied: tell(result.proxied, ours.comments), plain: tell(result.plain, theirs.comments) }
}

async function crowd(): Promise<Verdicts> {
  const { proxied, plain } = await ask('crowd')
  return { proxied: judgeCrowd(proxied), plain: judgeCrowd(plain) }
}

async function stopReading(): Promise<Verdicts> {
  const { proxied, plain } = await ask('stop-reading')
  const tell = ({ bytes, releasedAfterMs, watchedMs }: typeof proxied): Verdict => ({
    good: releasedAfterMs !== null,
    text:
      releasedAfterMs === null
        ? `Upstream paused at ${megabytes(bytes)}, and still held after ${seconds(watchedMs)}.`
        : `Upstream paused at ${megabytes(bytes)}; client let go and everything given back after ${seconds(releasedAfterMs)}.`,
  })
  return { proxied: tell(proxied), plain: tell(plain) }
}

async function chatAndStop(stage: Stage): Promise<Verdicts> {
  await stage.ensureUser()
  const [proxied, plain] = await Promise.all([chatThroughProxy(stage), chatThroughPlain()])
  return { proxied, plain }
}

async function chatThroughProxy({ chat, chatTokens }: Stage): Promise<Verdict> {
  const before = await chatTokens()
  const answer = chat.ask()
  const patience = AbortSignal.timeout(5000)
  while (chat.tokens < 15 && !patience.aborted) await pause(20)
  chat.stop()
  await answer
  const shown = chat.tokens
  await pause(300)
  const stopped = (await chatTokens()) - before
  await pause(1000)
  const after = (await chatTokens()) - before
  return {
    good: shown >= 15 && after === stopped,
    text: `${shown} tokens shown, ${after} made: the model ${after === stopped ? 'stopped' : 'went on'}.`,
  }
}

async function chatThroughPlain(): Promise<Verdict> {
  let tokens = 0
  const outcome = await complete('/plain/chat', AbortSignal.timeout(firstTokenMs), () => {
    tokens += 1
  })
  if (tokens > 0) return { good: true, text: `${tokens} tokens shown.` }
  const nothing = `No token in ${seconds(firstTokenMs)} (${outcome})`
  return {
    good: false,
    text: `${nothing}: express.json() had read the body, and the request never reached the model.`,
  }
}

async function sticky(): Promise<Verdicts> {
  const { proxied, plain } = await ask('sticky')
  const tell = (visits: typeof proxied): Verdict => {
    const backends = new Set(visits.map(({ backend }) => backend))
    return {
      good: backends.size === 1,
      text: `${visits.map(({ backend, visit }) => `${backend.slice(-1)} ${visit}`).join(', ')}: ${
        backends.size === 1 ? 'one backend, which counts on' : 'each knows half of the visits'
      }.`,
    }
  }
  return { proxied: tell(proxied), plain: tell(plain) }
}

async function compression(): Promise<Verdicts> {
  const { proxied, plain } = await ask('compression')
  const tell = (ms: number | null): Verdict => ({
    good: ms !== null,
    text:
      ms === null
        ? `No event in ${seconds(firstEventMs)}: the compressor keeps them.`
        : `First event after ${seconds(ms)}.`,
  })
  return { proxied: tell(proxied), plain: tell(plain) }
}
