// A job: started with a POST, followed with an EventSource that stops by itself when the job is done.
import { byId } from './elements.ts'

export function wireJob(ensureUser: () => Promise<void>): void {
  const start = byId('job-start', HTMLButtonElement)
  const state = byId('job-state', HTMLElement)
  const progress = byId('job-progress', HTMLProgressElement)

  start.addEventListener('click', async () => {
    start.disabled = true
    await ensureUser()
    const response = await fetch('/jobs', { method: 'POST' })
    if (!response.ok) {
      state.textContent = `The job could not be started: status ${response.status}.`
      start.disabled = false
      return
    }
    const { id } = await response.json()
    const source = new EventSource(`/jobs/${id}/events`)
    const end = (text: string) => {
      source.close()
      state.textContent = text
      start.disabled = false
    }
    source.addEventListener('progress', ({ data }) => {
      const { percent, step } = JSON.parse(data)
      progress.value = percent
      state.textContent = `${percent} %, ${step}`
    })
    source.addEventListener('done', () => end('Done.'))
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CLOSED) end('The stream was refused.')
    })
  })
}
