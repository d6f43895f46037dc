// Tests that do not depend on the wire, a second time: how streams end over HTTP/2 to the upstream.
import '../support/upstreams-over-http2.ts'
import '../behaviour/client-leaves.test.ts'
import '../behaviour/event-timeouts.test.ts'
import '../behaviour/is-end.test.ts'
import '../behaviour/lifetime.test.ts'
import '../behaviour/on-disconnect.test.ts'
import '../behaviour/on-lost.test.ts'
