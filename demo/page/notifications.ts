// The signed-in user's notifications, with an EventSource as any page would have it.
import { byId, make } from './elements.ts'

export class Notifications {
  readonly #state = byId('notifications-state', HTMLElement)
  readonly #list = byId('notification-list', HTMLOListElement)
  readonly #form = byId('notify', HTMLFormElement)
  #source: EventSource | undefined

  constructor(ensureUser: () => Promise<void>) {
    this.#form.addEventListener('submit', async (event) => {
      event.preventDefault()
      await ensureUser()
      const text = new FormData(this.#form).get('text')
      await fetch('/notifications', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ text }),
      })
    })
  }

  open(): void {
    this.close()
    const source = new EventSource('/events/notifications')
    this.#source = source
    source.addEventListener('welcome', ({ data }) => {
      const { backend, visit } = JSON.parse(data)
      this.#state.textContent = `Served by ${backend}, which has seen you ${visit === 1 ? 'once' : `${visit} times`}.`
    })
    source.addEventListener('notification', ({ data }) => {
      const time = new Date().toLocaleTimeString()
      this.#list.prepend(make('li', {}, make('span', { className: 'note' }, `${time} `), JSON.parse(data).text))
      if (this.#list.childElementCount > 20) this.#list.lastElementChild?.remove()
    })
    source.addEventListener('error', () => {
      this.#state.textContent = source.readyState === EventSource.CLOSED ? 'The stream was refused.' : 'Reconnecting.'
    })
  }

  close(): void {
    this.#source?.close()
    this.#source = undefined
    this.#state.textContent = 'Sign in to see yours.'
  }
}
