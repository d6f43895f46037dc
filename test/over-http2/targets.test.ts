// Tests that do not depend on the wire, a second time: upstreams that come and go, over HTTP/2.
import '../support/upstreams-over-http2.ts'
import '../behaviour/set-targets.test.ts'
import '../behaviour/targets-that-change.test.ts'
