// Who is signed in.
import { byId } from './elements.ts'

export class Session {
  user: string | null = null
  readonly #form = byId('session', HTMLFormElement)
  readonly #name = byId('user', HTMLInputElement)
  readonly #signIn = byId('sign-in', HTMLButtonElement)
  readonly #signOut = byId('sign-out', HTMLButtonElement)
  readonly #onChange: (user: string | null) => void

  constructor(onChange: (user: string | null) => void) {
    this.#onChange = onChange
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault()
      void this.ensure()
    })
    this.#signOut.addEventListener('click', async () => {
      await fetch('/sign-out', { method: 'POST' })
      this.#change(null)
    })
  }

  async load(): Promise<void> {
    const { user } = await (await fetch('/me')).json()
    this.#change(user)
  }

  /** Signs in with the name in the field where nobody is. */
  async ensure(): Promise<void> {
    if (this.user !== null) return
    const response = await fetch('/sign-in', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ user: this.#name.value }),
    })
    if (response.ok) this.#change((await response.json()).user)
  }

  #change(user: string | null): void {
    this.user = user
    if (user !== null) this.#name.value = user
    this.#name.readOnly = user !== null
    this.#signIn.hidden = user !== null
    this.#signOut.hidden = user === null
    this.#onChange(user)
  }
}
