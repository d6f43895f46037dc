// Traces and metrics for OpenTelemetry: the entry point sse-proxy-middleware/opentelemetry. Without it nothing of the package
// knows of OpenTelemetry. Spans are made of what the diagnostics channels tell, metrics of `proxy.stats()`.

import type { IncomingMessage } from 'node:http'
import {
  type Attributes,
  type BatchObservableResult,
  context,
  type MeterProvider,
  metrics,
  type Observable,
  propagation,
  type Span,
  SpanStatusCode,
  type Tracer,
  type TracerProvider,
  trace,
} from '@opentelemetry/api'
import type { CloseReason } from '../errors.ts'
import type { SseStream } from '../events/event.ts'
import { text } from '../options/check.ts'
import {
  type AttemptMessage,
  attempts,
  type CloseMessage,
  closes,
  type ErrorMessage,
  failures,
  type OpenMessage,
  opens,
  type ResumeMessage,
  type RetryMessage,
  resumes,
  retries,
} from './channels.ts'
import { DEFINITIONS, type Sample } from './prometheus-definitions.ts'
import type { StatsSource } from './stats.ts'

export type { StatsSource } from './stats.ts'

const SCOPE = 'sse-proxy-middleware'

/** Where the spans go. */
export interface TracingOptions {
  /** @defaultValue the global one */
  tracerProvider?: TracerProvider | undefined
}

/** Where the metrics go and how they are called. */
export interface MetricsOptions {
  /** @defaultValue the global one */
  meterProvider?: MeterProvider | undefined
  /** The prefix of each metric's name. @defaultValue 'sse_proxy_' */
  prefix?: string | undefined
}

/**
 * A span for each request of the proxy's, and with `share` for each client's stream: from its first attempt to its end, with its
 * retries and resumes as events. Every attempt carries the trace on to its upstream. Its parent is the active span, as that of
 * the app's HTTP instrumentation, or else what the client's request brings. Proxies are known by their option `name`.
 * @returns a function that ends tracing, and the spans that are open.
 */
export function traceStreams(proxy: StatsSource, { tracerProvider = trace }: TracingOptions = {}): () => void {
  const { name } = proxy.stats()
  const tracing = new Tracing(tracerProvider.getTracer(SCOPE), name)
  const own =
    <Message extends { readonly proxy: string }>(listener: (message: Message) => void) =>
    (message: Message) => {
      if (message.proxy === name) listener(message)
    }
  const subscriptions = [
    attempts.subscribe(own((message) => tracing.onAttempt(message))),
    opens.subscribe(own((message) => tracing.onOpen(message))),
    retries.subscribe(own((message) => tracing.onRetry(message))),
    resumes.subscribe(own((message) => tracing.onResume(message))),
    failures.subscribe(own((message) => tracing.onError(message))),
    closes.subscribe(own((message) => tracing.onClose(message))),
  ]
  return () => {
    for (const unsubscribe of subscriptions) unsubscribe()
    tracing.end()
  }
}

/** Reasons for which a stream ends as it should not. */
const FAILED: readonly CloseReason[] = ['upstream-lost', 'slow-client', 'hook-failed']

class Tracing {
  readonly #tracer: Tracer
  readonly #proxy: string
  // Also when they have ended: a shared stream goes on with its leader's request when that has left, and so does its trace.
  readonly #spans = new WeakMap<IncomingMessage, Span>()
  // Those that have not ended.
  readonly #open = new Set<Span>()
  // Requests that have become streams, whose end is the span's.
  readonly #streaming = new WeakSet<IncomingMessage>()

  constructor(tracer: Tracer, proxy: string) {
    this.#tracer = tracer
    this.#proxy = proxy
  }

  onAttempt({ req, res, headers }: AttemptMessage): void {
    let span = this.#spans.get(req)
    if (!span) {
      span = this.#begin(req)
      // An answer that is no stream, or none at all.
      res.once('close', () => {
        if (this.#streaming.has(req)) return
        if (res.headersSent) span?.setAttribute('http.response.status_code', res.statusCode)
        if (span) this.#end(span)
      })
    }
    propagation.inject(trace.setSpan(context.active(), span), headers)
  }

  onOpen({ stream }: OpenMessage): void {
    const span = this.#spans.get(stream.req) ?? this.#begin(stream.req)
    this.#streaming.add(stream.req)
    span.setAttributes({ 'sse_proxy.stream': stream.id, 'http.response.status_code': 200, ...progressOf(stream) })
    span.addEvent('open')
  }

  onRetry({ req, upstream, error, attempt, delayMs }: RetryMessage): void {
    this.#spans.get(req)?.addEvent('retry', {
      'sse_proxy.upstream': upstream,
      'error.type': error.code,
      'sse_proxy.attempt': attempt,
      'sse_proxy.delay_ms': delayMs,
    })
  }

  onResume({ stream, upstream, attempt }: ResumeMessage): void {
    this.#spans
      .get(stream.req)
      ?.addEvent('resume', { 'sse_proxy.upstream': upstream, 'sse_proxy.attempt': attempt, ...progressOf(stream) })
  }

  onError({ error, req }: ErrorMessage): void {
    const span = req && this.#spans.get(req)
    span?.setAttribute('error.type', error.code)
    span?.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
  }

  onClose({ stream, reason }: CloseMessage): void {
    const span = this.#spans.get(stream.req)
    if (!span) return
    span.setAttributes({ 'sse_proxy.close_reason': reason, ...progressOf(stream) })
    if (FAILED.includes(reason)) span.setStatus({ code: SpanStatusCode.ERROR, message: reason })
    // The error behind the end is told a turn later.
    const endedAt = new Date()
    setImmediate(() => setImmediate(() => this.#end(span, endedAt)))
  }

  /** Nothing more will be told. */
  end(): void {
    for (const span of this.#open) this.#end(span)
  }

  #end(span: Span, at?: Date): void {
    if (this.#open.delete(span)) span.end(at)
  }

  #begin(req: IncomingMessage): Span {
    const active = context.active()
    const parent = trace.getSpan(active) ? active : propagation.extract(active, req.headers)
    const route = routeOf(req)
    const attributes: Attributes = {
      'sse_proxy.name': this.#proxy,
      'http.request.method': req.method ?? 'GET',
      ...(route !== '' && { 'http.route': route }),
    }
    const span = this.#tracer.startSpan(`sse-proxy ${route || this.#proxy}`, { attributes }, parent)
    this.#spans.set(req, span)
    this.#open.add(span)
    return span
  }
}

/** How far a stream is. */
function progressOf({ upstream, events, bytes }: SseStream): Attributes {
  return { 'sse_proxy.upstream': upstream, 'sse_proxy.events': events, 'sse_proxy.bytes': bytes }
}

/** Where Express or Connect has mounted the proxy; empty elsewhere. The client's own path is no name for a group of spans. */
function routeOf(req: IncomingMessage): string {
  const baseUrl: unknown = Reflect.get(req, 'baseUrl')
  return typeof baseUrl === 'string' ? baseUrl : ''
}

/**
 * The metrics of a proxy, under the names that they have for Prometheus. Several proxies may have them in one meter: the
 * attribute `proxy` is the option `name` of each. A histogram is counted before OpenTelemetry asks for it, and so comes as
 * gauges: `_bucket` with the attribute `le`, `_sum` and `_count`.
 * @returns a function that ends it.
 */
export function streamMetrics(
  proxy: StatsSource,
  { meterProvider = metrics, prefix = 'sse_proxy_' }: MetricsOptions = {},
): () => void {
  text('prefix', prefix, /^([a-z_][a-z0-9_]*)?$/i, 'letters, digits and _, with no digit in front')
  const meter = meterProvider.getMeter(SCOPE)
  const instruments = new Map<string, Observable>()
  for (const { name, type, help: description } of DEFINITIONS) {
    for (const suffix of type === 'histogram' ? HISTOGRAM_PARTS : [undefined]) {
      const full = nameOf(prefix + name, suffix)
      const create = type === 'counter' ? meter.createObservableCounter : meter.createObservableGauge
      instruments.set(full, create.call(meter, full, { description }))
    }
  }
  const observe = (result: BatchObservableResult): void => {
    const stats = proxy.stats()
    for (const { name, read } of DEFINITIONS) {
      for (const { value, labels, suffix } of read(stats)) {
        const instrument = instruments.get(nameOf(prefix + name, suffix))
        if (instrument) result.observe(instrument, value, { proxy: stats.name, ...labels })
      }
    }
  }
  const all = [...instruments.values()]
  meter.addBatchObservableCallback(observe, all)
  return () => meter.removeBatchObservableCallback(observe, all)
}

const HISTOGRAM_PARTS = ['_bucket', '_sum', '_count'] as const

function nameOf(name: string, suffix: Sample['suffix']): string {
  return name + (suffix ?? '')
}
