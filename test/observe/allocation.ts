// How much an operation leaves on the heap, garbage included.

const calls = 2000

/** Bytes for each call, once the code is as fast as it gets: while it is still interpreted, numbers are allocated too. */
export function bytesAllocated(operation: () => void): number {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < 10 && least >= 1; round += 1) {
    for (let call = 0; call < 50_000; call += 1) operation()
    const idle = median(() => heapGrowth(() => {}))
    least = Math.min(least, Math.max(0, median(() => heapGrowth(operation)) - idle))
  }
  return least
}

// Few calls at a time: a collection falls into few of the measurements, and the median knows nothing of it.
function heapGrowth(operation: () => void): number {
  const before = process.memoryUsage().heapUsed
  for (let call = 0; call < calls; call += 1) operation()
  return (process.memoryUsage().heapUsed - before) / calls
}

function median(measure: () => number): number {
  const measured = Array.from({ length: 51 }, measure)
  return measured.sort((a, b) => a - b)[25] ?? 0
}
