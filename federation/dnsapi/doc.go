// Package dnsapi is the DNS front end: a name becomes a question (name.go), the
// question a request to the dispatcher, and the records that come back an answer
// (answer.go) cut to what the transport carries (size.go). It decides nothing
// about where a request runs. Source: spec/dns.md.
//
// It listens on UDP and TCP. Every question has a deadline; a question the
// dispatcher cannot answer is SERVFAIL, an unknown name NXDOMAIN with the zone's
// SOA, a name outside our zones goes to the recursors or is REFUSED.
package dnsapi
