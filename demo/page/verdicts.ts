// What is said of a lane after an experiment: a mark and a sentence, from its record alone.
import type { CrowdResult } from '../experiments/crowd.ts'
import type { LaneRecord } from './lane.ts'

export interface Verdict {
  /** Undefined where nothing could be measured. */
  readonly good: boolean | undefined
  readonly text: string
}

export function judge(record: LaneRecord): Verdict {
  const faults: string[] = []
  for (const { kind, tail } of record.endings) faults.push(describeEnding(kind, tail))
  if (record.gaveUp !== undefined) faults.push(`answered ${record.gaveUp}, on which an EventSource gives up for good`)
  if (record.missed > 0) faults.push(`${record.missed} events missing`)
  if (record.repeated > 0) faults.push(`${record.repeated} events came twice`)
  const pause = `longest pause ${seconds(record.silenceMs)}`
  if (faults.length === 0) {
    return { good: true, text: `Nothing to be seen: ${record.events} events without a gap, ${pause}.` }
  }
  return { good: false, text: sentence([...new Set(faults), pause].join('; ')) }
}

/** An end is no fault of a drain's when it comes behind an event and the client is back at once. */
export function judgeDrain(record: LaneRecord): Verdict {
  const cut = record.endings.some(({ kind, tail }) => kind === 'broken' || tail !== '')
  if (cut || record.endings.length === 0 || record.missed + record.repeated > 0) return judge(record)
  return {
    good: true,
    text: `Ended between two events with retry: ${record.retryMs}; back on the new instance, no event missing, longest pause ${seconds(record.silenceMs)}.`,
  }
}

export function judgeCrowd({ asked, served, upstream }: CrowdResult): Verdict {
  const waiting = served === asked ? '' : `; ${asked - served} wait without an error`
  const connections = `${upstream} upstream ${upstream === 1 ? 'connection' : 'connections'}`
  return { good: served === asked, text: `${served} of ${asked} got events, over ${connections}${waiting}.` }
}

function describeEnding(kind: 'complete' | 'broken', tail: string): string {
  const foreign = tail.match(/Error occurred.*/)?.[0]
  if (foreign) return `ended as if complete, with “${foreign}” written into an event`
  const where = tail ? 'in the middle of an event' : 'between two events'
  return kind === 'complete' ? `ended as if complete, ${where}` : `broken off ${where}`
}

/** With a capital and a full stop. */
export function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}

export function seconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1).replace('.0', '')} s`
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(1)} MB`
}
