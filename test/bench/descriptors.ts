// How many connections a process may have: every stream takes two descriptors, in a proxy as in the load generator.

const spare = 400
const unknownLimit = 4_096

function descriptorLimit(): number {
  // A report without the network would be quicker, but that setting is younger than Node 20.
  const report: unknown = process.report?.getReport()
  const limits = (report as { userLimits?: { open_files?: { hard?: number | string } } }).userLimits
  const hard = limits?.open_files?.hard
  if (hard === 'unlimited') return Number.POSITIVE_INFINITY
  return typeof hard === 'number' ? hard : unknownLimit
}

export function streamsAtMost(wanted: number): number {
  return Math.min(wanted, Math.floor((descriptorLimit() - spare) / 2))
}
