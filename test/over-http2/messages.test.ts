// Tests that do not depend on the wire, a second time: requests and answers over HTTP/2 to the upstream.
import '../support/upstreams-over-http2.ts'
import '../behaviour/byte-exact.test.ts'
import '../behaviour/decoding.test.ts'
import '../behaviour/early-answers.test.ts'
import '../behaviour/headers-to-client.test.ts'
import '../behaviour/request-bodies.test.ts'
