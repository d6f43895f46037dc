// The lists of experiments: a button, what it does, and one verdict for each route. Which ones there are stands in the
// files that are called experiments.
import { byId, make } from './elements.ts'
import type { Verdict } from './verdicts.ts'

export interface Verdicts {
  readonly proxied: Verdict
  readonly plain: Verdict
}

export interface Experiment {
  readonly id: string
  readonly button: string
  readonly what: string
  /** Choices for a select beside the button: value and text. */
  readonly choices?: { readonly label: string; readonly options: readonly (readonly [string, string])[] }
  run(choice: string): Promise<Verdicts>
}

/** By the id of the list that they are shown in. */
export function showExperiments(lists: Readonly<Record<string, readonly Experiment[]>>): void {
  const buttons: HTMLButtonElement[] = []
  for (const [id, experiments] of Object.entries(lists)) {
    byId(id, HTMLUListElement).append(...experiments.map((experiment) => row(experiment, buttons)))
  }
}

function row({ id, button: name, what, choices, run }: Experiment, buttons: HTMLButtonElement[]): HTMLLIElement {
  const button = make('button', { type: 'button', id: `experiment-${id}` }, name)
  const text = make('p', { id: `experiment-${id}-what` }, what)
  const controls = make('div', { className: 'controls' }, button)
  const proxied = new VerdictView('proxied', 'sse-proxy-middleware')
  const plain = new VerdictView('plain', 'plain http-proxy-middleware')
  const select = choices && make('select', {}, ...choices.options.map(([value, label]) => new Option(label, value)))
  const item = make('li', {}, make('div', { className: 'what' }, controls, text), proxied.element, plain.element)

  button.setAttribute('aria-describedby', text.id)
  if (select && choices) {
    select.setAttribute('aria-label', choices.label)
    controls.append(select)
  }
  buttons.push(button)
  button.addEventListener('click', async () => {
    setRunning(true)
    try {
      const verdicts = await run(select?.value ?? '')
      proxied.show(verdicts.proxied)
      plain.show(verdicts.plain)
    } catch (error) {
      for (const view of [proxied, plain]) view.fail(error)
    }
    setRunning(false)
  })

  /** One at a time: they would disturb each other. */
  function setRunning(isRunning: boolean): void {
    item.classList.toggle('running', isRunning)
    item.setAttribute('aria-busy', String(isRunning))
    button.textContent = isRunning ? 'Running …' : name
    for (const one of buttons) one.disabled = isRunning
    if (isRunning) for (const view of [proxied, plain]) view.wait()
    else button.focus({ preventScroll: true })
  }
  return item
}

class VerdictView {
  readonly element: HTMLElement
  readonly #output = make('output', {}, 'not tried yet')

  constructor(route: 'proxied' | 'plain', label: string) {
    this.element = make(
      'div',
      { className: `verdict ${route}` },
      make('div', { className: 'route' }, label),
      this.#output,
    )
  }

  wait(): void {
    this.element.classList.remove('done')
    this.#output.value = '…'
  }

  show({ good, text }: Verdict): void {
    this.element.classList.add('done')
    this.#output.dataset.mark = good === undefined ? '–' : good ? '✓' : '✕'
    this.#output.value = text
  }

  fail(error: unknown): void {
    this.#output.value = `The experiment itself failed: ${error instanceof Error ? error.message : error}`
  }
}
