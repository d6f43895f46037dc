// Prometheus metrics of proxies, in a prom-client registry: the entry point sse-proxy-middleware/prometheus. Statistics are
// read when a scrape asks for them, and cost nothing until then. prom-client itself is not imported: a registry takes any
// object with the shape of a metric, and only such an object can report buckets that were counted elsewhere.

import { ConfigError } from '../errors.ts'
import { text } from '../options/check.ts'
import { DEFINITIONS, type MetricDefinition } from './prometheus-definitions.ts'
import type { ProxyStats, StatsSource } from './stats.ts'

export type { StatsSource } from './stats.ts'

/** The part of a registry that is needed: every `Registry` of prom-client 14 and later has it. */
export interface MetricRegistry {
  registerMetric(metric: RegisteredMetric): void
  getSingleMetric(name: string): unknown
  removeSingleMetric(name: string): void
}

/** A metric, as far as a registry uses it. */
export interface RegisteredMetric {
  get(): Promise<object>
  reset(): void
}

/** Where the metrics go and how they are called. */
export interface PrometheusOptions {
  /** A prom-client registry, for example its default one, `register`. */
  registry: MetricRegistry
  /** The prefix of each metric's name. @defaultValue 'sse_proxy_' */
  prefix?: string | undefined
}

/**
 * Registers the metrics of a proxy. Several proxies may share a registry: the label `proxy` is the option `name` of each.
 * prom-client's cluster aggregation adds up the numbers of all workers.
 * @returns a function that unregisters the proxy's metrics.
 * @throws ConfigError when the registry already has a proxy of that name, or another metric of one of the names.
 */
export function prometheusMetrics(
  proxy: StatsSource,
  { registry, prefix = 'sse_proxy_' }: PrometheusOptions,
): () => void {
  text('prefix', prefix, /^([a-z_:][a-z0-9_:]*)?$/i, 'letters, digits, _ and :, with no digit in front')
  const { name } = proxy.stats()
  const reporters = reportersIn(registry, prefix)
  if (reporters.has(name)) {
    throw new ConfigError(`name: a proxy called '${name}' has its metrics in this registry already, give each its own`)
  }
  reporters.add(name, proxy)
  return () => reporters.delete(name, proxy)
}

/** The reporters of an earlier call with this registry and prefix, or new ones. */
function reportersIn(registry: MetricRegistry, prefix: string): Reporters {
  const present = DEFINITIONS.map(({ name }) => registry.getSingleMetric(prefix + name))
  const known = present.find((metric) => metric instanceof ProxyMetric)
  if (known) return known.reporters
  const taken = DEFINITIONS.find((_definition, index) => present[index])
  if (taken) throw new ConfigError(`prefix: the registry has another metric called '${prefix}${taken.name}'`)
  return new Reporters(registry, prefix)
}

/** The proxies of one registry and prefix, which share one set of metrics. */
class Reporters {
  readonly #registry: MetricRegistry
  readonly #prefix: string
  // By name, which is their label.
  readonly #proxies = new Map<string, StatsSource>()
  // The snapshots of the scrape that is under way. Cleared in a microtask, when the registry has asked every metric.
  #scrape: readonly ProxyStats[] | undefined

  constructor(registry: MetricRegistry, prefix: string) {
    this.#registry = registry
    this.#prefix = prefix
  }

  has(name: string): boolean {
    return this.#proxies.has(name)
  }

  add(name: string, proxy: StatsSource): void {
    this.#proxies.set(name, proxy)
    if (this.#proxies.size > 1) return
    for (const definition of DEFINITIONS) {
      this.#registry.registerMetric(new ProxyMetric(this.#prefix, definition, this))
    }
  }

  delete(name: string, proxy: StatsSource): void {
    // Unregistered before, and the name may be another proxy's by now.
    if (this.#proxies.get(name) !== proxy) return
    this.#proxies.delete(name)
    if (this.#proxies.size > 0) return
    for (const definition of DEFINITIONS) {
      const metric = this.#registry.getSingleMetric(this.#prefix + definition.name)
      // After `registry.clear()` the name may be another metric's.
      if (metric instanceof ProxyMetric && metric.reporters === this) {
        this.#registry.removeSingleMetric(this.#prefix + definition.name)
      }
    }
  }

  /** One snapshot for all metrics of a scrape, because a registry reads them all in one turn. */
  scrape(): readonly ProxyStats[] {
    if (!this.#scrape) {
      this.#scrape = [...this.#proxies.values()].map((proxy) => proxy.stats())
      queueMicrotask(() => {
        this.#scrape = undefined
      })
    }
    return this.#scrape
  }
}

/** One metric, with the samples of all proxies of a registry. */
class ProxyMetric implements RegisteredMetric {
  // Not readonly: an OpenMetrics registry changes the names of counters, whose `_total` it appends itself.
  name: string
  readonly help: string
  readonly type: MetricDefinition['type']
  readonly aggregator: MetricDefinition['aggregator']
  readonly reporters: Reporters
  readonly #read: MetricDefinition['read']

  constructor(prefix: string, { name, help, type, aggregator, read }: MetricDefinition, reporters: Reporters) {
    this.name = prefix + name
    this.help = help
    this.type = type
    this.aggregator = aggregator
    this.reporters = reporters
    this.#read = read
  }

  async get(): Promise<object> {
    const { name, help, type, aggregator, reporters } = this
    return { name, help, type, aggregator, values: reporters.scrape().flatMap((stats) => this.#values(stats)) }
  }

  /** Does nothing: the counts belong to the proxy, and `registry.resetMetrics()` cannot clear them. */
  reset(): void {}

  #values(stats: ProxyStats): object[] {
    return this.#read(stats).map(({ value, labels, suffix }) => ({
      value,
      labels: { proxy: stats.name, ...labels },
      ...(suffix && { metricName: this.name + suffix }),
    }))
  }
}
