// Package apiclient is a module of its own that drives the landbridge binary with
// the official Go client of the Consul HTTP API, as users' programs do. The client
// is needed nowhere else, so it stays out of the product's go.mod. There is only
// test code; `make e2e` runs it against the binary that LANDBRIDGE_BIN names.
//
// Agents are real processes on loopback addresses below 127.21.0.0/16 with the
// default ports.
package apiclient
