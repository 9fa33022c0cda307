// Package httpapi is the HTTP front end: it parses a request, hands it to the
// dispatcher or the local agent, and renders the answer. Where a request runs
// and what it may see is decided elsewhere.
//
// Paths, parameters, headers, statuses and error texts are those of
// spec/http-*.md: clients match them literally. One table (routes.go) lists
// every path with its methods; a second one (later.go) lists the paths of the
// interface that are not built yet and answer so in words, with status 500. One
// table (errors.go) maps the kinds of errors to statuses.
//
// The paths that carry the load, /v1/kv/ and /v1/health/service/, are found by a
// switch before the table; their parameters are read from the query string
// without building a map, header values that never change are made once, and the
// body goes from Response.Body to the socket as it is.
//
// Promises: a request is bounded in its body, its headers and in the number of
// connections of its client; a client that goes away cancels the request's
// context, which ends a blocking query wherever it waits. Tokens and values are
// never logged. A Server is safe for concurrent use, starts goroutines only for
// its listeners, and Stop waits for them.
package httpapi
