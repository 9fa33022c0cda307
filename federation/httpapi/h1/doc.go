// Package h1 serves HTTP/1.1 connections as long as their requests are simple
// ones: a request line, headers and a short body of a known length, for a
// handler that answers in one piece. Everything else goes, with its connection and
// all bytes read so far, to net/http, and stays there: streams, long or chunked
// bodies, upgrades, HTTP/1.0, and whatever is not exactly the grammar of RFC 9112
// that parse.go knows. So nothing is refused here, and what a malformed request is
// answered is net/http's business.
//
// For simple requests this costs about a third of net/http: one goroutine a
// connection, no timer per request, and headers that a client repeats are parsed
// once. Quick requests have no reader in the background: their context never ends,
// and handlers bound their own waits. Waiting ones, blocking queries, have one, and
// no buffers meanwhile.
//
// A request and its headers are the handler's until it returns; the next one on
// the connection reuses them. The body is in memory before the handler runs.
//
// Slow clients are bounded as in net/http: a head must be whole ReadTimeout after
// its first byte, a body BodyTimeout after its head, and a connection that asks
// nothing is closed after IdleTimeout.
package h1
