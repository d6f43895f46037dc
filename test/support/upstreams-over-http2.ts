// Imported before a test file, it makes all its upstreams speak HTTP/2 that do not say otherwise, and `proxied()` speak it to them.
process.env.TEST_UPSTREAMS = 'http2'
