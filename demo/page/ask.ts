// Asks the app to do an experiment with clients of its own, and for what it measured.
import type { ExperimentResults } from '../experiments/experiment-runner.ts'

export async function ask<N extends keyof ExperimentResults>(
  name: N,
  options: object = {},
): Promise<ExperimentResults[N]> {
  const response = await fetch(`/experiments/${name}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(options),
  })
  const result = await response.json()
  if (!response.ok) throw new Error(result.error)
  return result
}
