// The page: two lanes, experiments on them, figures, and a few more streams.
import './language.ts'
import type { Figures } from '../figures.ts'
import { answerExperiments } from './answer-experiments.ts'
import { Chat } from './chat.ts'
import { showExperiments } from './experiment-list.ts'
import { experiments } from './experiments.ts'
import { FiguresPanel } from './figures.ts'
import { wireJob } from './job.ts'
import { Lane } from './lane.ts'
import { LastingAnswer } from './lasting-answer.ts'
import { nodeExperiments } from './node-experiments.ts'
import { Notifications } from './notifications.ts'
import { Session } from './session.ts'
import { upstreamExperiments } from './upstream-experiments.ts'

const proxied = new Lane('lane-proxied', '/events/ticker')
const plain = new Lane('lane-plain', '/plain/ticker')
const figures = new FiguresPanel()
const session = new Session((user) => {
  if (user === null) return leaveOwn()
  notifications.open()
  void lasting.resume()
})
const ensureUser = () => session.ensure()
const notifications = new Notifications(ensureUser)
const chat = new Chat(ensureUser)
const lasting = new LastingAnswer(ensureUser)

wireJob(ensureUser)
showExperiments({
  'experiment-list': [
    ...experiments({ proxied, plain, chat, ensureUser, chatTokens }),
    ...answerExperiments(lasting, ensureUser),
    ...nodeExperiments,
  ],
  'upstream-list': upstreamExperiments,
})
proxied.open()
plain.open()
void session.load()
void follow()

async function takeFigures(): Promise<Figures> {
  return await (await fetch('/figures')).json()
}

async function chatTokens(): Promise<number> {
  return (await takeFigures()).chatTokens
}

/** Asked for once a second rather than streamed: a browser has six connections to a host, and they are needed. */
async function follow(): Promise<void> {
  for (;;) {
    try {
      const now = await takeFigures()
      figures.show(now, proxied, plain)
      chat.showMade(now.chatTokens)
    } catch {
      // The demo has ended, or is about to be back.
    }
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
}

function leaveOwn(): void {
  notifications.close()
  lasting.leave()
}

// A second tab would find no connection left while this one holds its streams.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    proxied.close()
    plain.close()
    leaveOwn()
  } else {
    proxied.open()
    plain.open()
    if (session.user === null) return
    notifications.open()
    void lasting.resume()
  }
})
