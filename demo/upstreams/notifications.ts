// Two backends that keep what they know of a user in their own memory, as many do: a user who is sent to the other one
// is a stranger there. Notifications reach both, over the bus that such backends have.
import { Backend, type OpenStream } from './backend.ts'

export class Notifications {
  readonly backends: readonly [Backend, Backend]

  constructor() {
    this.backends = [notifier('notifications-a'), notifier('notifications-b')]
  }

  async start(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.start()))
  }

  async stop(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.stop()))
  }

  notify(user: string, text: string): void {
    for (const { streams } of this.backends) {
      for (const { req, res } of streams) {
        if (userOf(req) === user) res.write(`event: notification\ndata: ${JSON.stringify({ text })}\n\n`)
      }
    }
  }
}

function notifier(name: string): Backend {
  // Only in this backend's memory.
  const visits = new Map<string, number>()
  return new Backend(name, (req, res, backend) => {
    const user = userOf(req)
    const visit = (visits.get(user) ?? 0) + 1
    visits.set(user, visit)
    backend.open(req, res)
    res.write(`event: welcome\ndata: ${JSON.stringify({ backend: name, visit })}\n\n`)
  })
}

/** The app in front has checked who it is. */
function userOf(req: OpenStream['req']): string {
  return String(req.headers['x-user'])
}
