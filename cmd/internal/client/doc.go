// Package client is the command line's HTTP client: it finds an agent by flags
// and environment, speaks the public HTTP API to it, and reports refusals in
// the words tools know ("Unexpected response code: 500 (...)").
//
// It is no client library: only what commands need is here, answers are decoded
// into the few fields they print, and nothing is retried. A Client is safe for
// concurrent use.
package client
