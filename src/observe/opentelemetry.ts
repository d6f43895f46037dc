// Traces and metrics for OpenTelemetry: the entry point sse-proxy-middleware/opentelemetry. Without it nothing of the package
// knows of OpenTelemetry. Spans are made of what the diagnostics channels tell, metrics of `proxy.stats()`.

import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type Attributes,
  type BatchObservableResult,
  type Context,
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
import { failureReport, tell } from '../app-callback.ts'
import { type CloseReason, ConfigError } from '../errors.ts'
import type { SseStream } from '../events/event.ts'
import { callable, group, text } from '../options/check.ts'
import { onClientGone } from '../stream/client-gone.ts'
import {
  type AttemptMessage,
  attempts,
  type CloseMessage,
  closes,
  type ErrorMessage,
  failures,
  type OpenMessage,
  opens,
  type RequestMessage,
  type ResumeMessage,
  type RetryMessage,
  requests,
  resumes,
  retries,
} from './channels.ts'
import { DEFINITIONS } from './prometheus-definitions.ts'
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
 * A span for each request of the proxy's, from its coming in to its end, with its retries and resumes as events. It is called like
 * the proxy, whose option `name` tells it from others. Every attempt carries the trace on to its upstream, and the baggage; where one must not get them, `on.proxyReq` can remove the headers. The span's parent is the
 * active one, as that of the app's HTTP instrumentation, or else what the client's request brings. A stream that has been open
 * for hours has no span yet: `streamMetrics` tells of those.
 * @returns a function that ends tracing, and the spans that are open: to be called before the exporter is shut down.
 * @throws ConfigError when a proxy of that name is traced already
 */
export function traceStreams(proxy: StatsSource, options: TracingOptions = {}): () => void {
  const { tracerProvider = trace } = group('', options, ['tracerProvider'])
  callable('tracerProvider', tracerProvider.getTracer, 'a TracerProvider of OpenTelemetry')
  const name = nameOf(proxy)
  if (traced.has(name)) {
    throw new ConfigError(`name: a proxy called '${name}' is traced already, give each its own`)
  }
  const tracing = new Tracing(tracerProvider.getTracer(SCOPE), name)
  traced.add(name)
  const own =
    <Message extends { readonly proxy: string }>(listener: (message: Message) => void) =>
    (message: Message) => {
      if (message.proxy === name) listener(message)
    }
  const subscriptions = [
    requests.subscribe(own((message) => tracing.onRequest(message))),
    attempts.subscribe(own((message) => tracing.onAttempt(message))),
    opens.subscribe(own((message) => tracing.onOpen(message))),
    retries.subscribe(own((message) => tracing.onRetry(message))),
    resumes.subscribe(own((message) => tracing.onResume(message))),
    failures.subscribe(own((message) => tracing.onError(message))),
    closes.subscribe(own((message) => tracing.onClose(message))),
  ]
  return () => {
    if (subscriptions.length === 0) return
    for (const unsubscribe of subscriptions.splice(0)) unsubscribe()
    traced.delete(name)
    tracing.end()
  }
}

// The names of the proxies that are traced: messages tell proxies apart by name alone.
const traced = new Set<string>()

function nameOf(proxy: StatsSource): string {
  callable('proxy', proxy?.stats, 'what sseProxy() returns')
  return proxy.stats().name
}

/** Reasons for which a stream ends as it should not. */
const FAILED: readonly CloseReason[] = ['upstream-lost', 'slow-client', 'hook-failed']

/** What is known of a request. */
interface Traced {
  readonly span: Span
  /** The span, and the baggage that came with the request: what each attempt carries on, whatever has caused it. */
  readonly context: Context
}

// A processor or an exporter may throw. The methods of Tracing that no channel calls have to expect it.
const report = failureReport(undefined)

class Tracing {
  readonly #tracer: Tracer
  readonly #proxy: string
  // Also when their spans have ended: a shared stream goes on with its leader's request when that has left, and so does its trace.
  readonly #requests = new WeakMap<IncomingMessage, Traced>()
  // Those that have not ended.
  readonly #open = new Set<Span>()
  // Requests that have become streams, whose end is the span's.
  readonly #streaming = new WeakSet<IncomingMessage>()

  constructor(tracer: Tracer, proxy: string) {
    this.#tracer = tracer
    this.#proxy = proxy
  }

  // A client of a shared stream is served in the async context of another: here alone the active span is its own.
  onRequest({ req, res }: RequestMessage): void {
    const span = this.#begin(req)
    onClientGone(req, res, { onGone: () => this.#onGone(req, res, span) })
  }

  onAttempt({ req, headers }: AttemptMessage): void {
    const known = this.#requests.get(req)
    if (!known) return
    // Of what the client has sent itself nothing may stay beside the trace that is sent in its place.
    for (const field of propagation.fields()) delete headers[field]
    propagation.inject(known.context, headers)
  }

  onOpen({ stream }: OpenMessage): void {
    const span = this.#openSpan(stream.req)
    if (!span) return
    this.#streaming.add(stream.req)
    span.setAttributes({ 'sse_proxy.stream': stream.id, 'http.response.status_code': 200, ...progressOf(stream) })
    span.addEvent('open')
  }

  onRetry({ req, upstream, error, attempt, delayMs }: RetryMessage): void {
    this.#openSpan(req)?.addEvent('retry', {
      'sse_proxy.upstream': upstream,
      'error.type': error.code,
      'sse_proxy.attempt': attempt,
      'sse_proxy.delay_ms': delayMs,
    })
  }

  onResume({ stream, upstream, attempt }: ResumeMessage): void {
    const attributes = { 'sse_proxy.upstream': upstream, 'sse_proxy.attempt': attempt, ...progressOf(stream) }
    this.#openSpan(stream.req)?.addEvent('resume', attributes)
  }

  onError({ error, req }: ErrorMessage): void {
    const span = req && this.#openSpan(req)
    span?.setAttribute('error.type', error.code)
    span?.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
  }

  onClose({ stream, reason }: CloseMessage): void {
    const span = this.#openSpan(stream.req)
    if (!span) return
    span.setAttributes({ 'sse_proxy.close_reason': reason, ...progressOf(stream) })
    if (!FAILED.includes(reason)) return this.#end(span)
    span.setStatus({ code: SpanStatusCode.ERROR, message: reason })
    // The error behind the end is told a turn later.
    const endedAt = new Date()
    setImmediate(() => setImmediate(() => this.#end(span, endedAt)))
  }

  /** Nothing more will be told. */
  end(): void {
    for (const span of this.#open) this.#end(span)
  }

  /** The response to a request is over that became no stream. */
  #onGone(req: IncomingMessage, res: ServerResponse, span: Span): void {
    if (this.#streaming.has(req) || !this.#open.has(span)) return
    tell('span', () => res.headersSent && span.setAttribute('http.response.status_code', res.statusCode), report)
    this.#end(span)
  }

  /** One that has ended takes nothing more. */
  #openSpan(req: IncomingMessage): Span | undefined {
    const span = this.#requests.get(req)?.span
    return span && this.#open.has(span) ? span : undefined
  }

  #end(span: Span, at?: Date): void {
    if (this.#open.delete(span)) tell('span', () => span.end(at), report)
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
    const span = this.#tracer.startSpan(this.#proxy, { attributes }, parent)
    this.#requests.set(req, { span, context: trace.setSpan(parent, span) })
    this.#open.add(span)
    return span
  }
}

/** How far a stream is. */
function progressOf({ upstream, events, bytes }: SseStream): Attributes {
  return { 'sse_proxy.upstream': upstream, 'sse_proxy.events': events, 'sse_proxy.bytes': bytes }
}

/** Where Express or Connect has mounted the proxy, with the names of parameters in place of what clients put there. */
function routeOf(req: IncomingMessage): string {
  const baseUrl: unknown = Reflect.get(req, 'baseUrl')
  const params: unknown = Reflect.get(req, 'params')
  if (typeof baseUrl !== 'string') return ''
  const names = new Map(Object.entries(params ?? {}).map(([name, value]) => [String(value), `:${name}`]))
  return baseUrl
    .split('/')
    .map((part) => names.get(decoded(part)) ?? part)
    .join('/')
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/**
 * The metrics of a proxy, under the names that they have for Prometheus. Several proxies may have them in one meter: the
 * attribute `proxy` is the option `name` of each. A histogram is counted before OpenTelemetry asks for it, and so comes as
 * gauges: `_bucket` with the attribute `le`, `_sum` and `_count`. To be called when the SDK has been started: what is asked of
 * OpenTelemetry's global meter provider before goes nowhere.
 * @returns a function that ends it.
 * @throws ConfigError when the provider has metrics of a proxy of that name and prefix already
 */
export function streamMetrics(proxy: StatsSource, options: MetricsOptions = {}): () => void {
  const { meterProvider = metrics, prefix = 'sse_proxy_' } = group('', options, ['meterProvider', 'prefix'])
  callable('meterProvider', meterProvider.getMeter, 'a MeterProvider of OpenTelemetry')
  text('prefix', prefix, /^([a-z_][a-z0-9_]*)?$/i, 'letters, digits and _, with no digit in front')
  const name = nameOf(proxy)
  const names = measured.get(meterProvider) ?? new Set()
  measured.set(meterProvider, names)
  if (names.has(prefix + name)) {
    throw new ConfigError(`name: a proxy called '${name}' has its metrics there already, give each its own`)
  }
  names.add(prefix + name)

  const meter = meterProvider.getMeter(SCOPE)
  const instruments = new Map<string, Observable>()
  for (const { name, type, help: description } of DEFINITIONS) {
    for (const suffix of type === 'histogram' ? HISTOGRAM_PARTS : ['']) {
      const full = prefix + name + suffix
      const create = type === 'counter' ? meter.createObservableCounter : meter.createObservableGauge
      instruments.set(full, create.call(meter, full, { description }))
    }
  }
  const observe = (result: BatchObservableResult): void => {
    const stats = proxy.stats()
    for (const { name, read } of DEFINITIONS) {
      for (const { value, labels, suffix = '' } of read(stats)) {
        const instrument = instruments.get(prefix + name + suffix)
        if (instrument) result.observe(instrument, value, { proxy: stats.name, ...labels })
      }
    }
  }
  const all = [...instruments.values()]
  meter.addBatchObservableCallback(observe, all)
  return () => {
    meter.removeBatchObservableCallback(observe, all)
    names.delete(prefix + name)
  }
}

// By provider, the prefixes with the names of the proxies: two with the same would overwrite each other's numbers.
const measured = new WeakMap<object, Set<string>>()

const HISTOGRAM_PARTS = ['_bucket', '_sum', '_count']
