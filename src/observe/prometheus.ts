// The statistics of proxies as Prometheus metrics, in a registry of prom-client's. An entry point of its own. The
// numbers are read when a scrape asks for them; until then this does nothing. prom-client itself is not imported: a
// registry takes any object with the shape of a metric, and only such an object can report buckets counted elsewhere.

import { ConfigError } from '../errors.ts'
import { text } from '../options/check.ts'
import { DEFINITIONS, type MetricDefinition } from './prometheus-definitions.ts'
import type { ProxyStats } from './stats.ts'

/** What is asked of a proxy: everything that `sseProxy()` returns has it. */
export interface StatsSource {
  stats(): ProxyStats
}

/** What is asked of a registry: every `Registry` of prom-client 14 and later has it. */
export interface MetricRegistry {
  registerMetric(metric: RegisteredMetric): void
  getSingleMetric(name: string): unknown
  removeSingleMetric(name: string): void
}

/** What is asked of a metric by a registry that has only these types to go by. */
export interface RegisteredMetric {
  get(): Promise<object>
  reset(): void
}

/** Where the metrics go and how they are called. */
export interface PrometheusOptions {
  /** A registry of prom-client's, for example its default one, `register`. */
  registry: MetricRegistry
  /** What the name of each metric starts with. @defaultValue 'sse_proxy_' */
  prefix?: string | undefined
}

/**
 * Registers the metrics of a proxy. Several proxies may share a registry: each has the label `proxy`, which is its
 * option `name`. With prom-client's cluster aggregation the numbers of all workers are added up.
 * @returns a function that takes the proxy's metrics away again.
 * @throws ConfigError when a proxy of the same name is there already, or something else that has a metric's name.
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

/** Those that are there from an earlier call, else new ones. */
function reportersIn(registry: MetricRegistry, prefix: string): Reporters {
  const present = DEFINITIONS.map(({ name }) => registry.getSingleMetric(prefix + name))
  const known = present.find((metric) => metric instanceof ProxyMetric)
  if (known) return known.reporters
  const taken = DEFINITIONS.find((_definition, index) => present[index])
  if (taken) throw new ConfigError(`prefix: the registry has another metric called '${prefix}${taken.name}'`)
  return new Reporters(registry, prefix)
}

/** The proxies of one registry and prefix, and the metrics they share. */
class Reporters {
  readonly #registry: MetricRegistry
  readonly #prefix: string
  readonly #proxies = new Map<string, StatsSource>()
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
    // It may be gone, and its name may be another's by now.
    if (this.#proxies.get(name) !== proxy) return
    this.#proxies.delete(name)
    if (this.#proxies.size > 0) return
    for (const definition of DEFINITIONS) {
      const metric = this.#registry.getSingleMetric(this.#prefix + definition.name)
      // A registry that was cleared may hold another's.
      if (metric instanceof ProxyMetric && metric.reporters === this) {
        this.#registry.removeSingleMetric(this.#prefix + definition.name)
      }
    }
  }

  /** The same for all metrics of a scrape: a registry asks all of them in one go. */
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

/** One metric, with the numbers of all proxies that share it. */
class ProxyMetric implements RegisteredMetric {
  // Changed by an OpenMetrics registry, which puts the `_total` of a counter there itself.
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

  /** What a proxy has counted is not the registry's to forget. */
  reset(): void {}

  #values(stats: ProxyStats): object[] {
    return this.#read(stats).map(({ value, labels, suffix }) => ({
      value,
      labels: { proxy: stats.name, ...labels },
      ...(suffix && { metricName: this.name + suffix }),
    }))
  }
}
