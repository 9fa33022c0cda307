// Package dnsapi is the DNS front end: a name becomes a question (name.go), the
// question a request to the dispatcher, what comes back the records of an answer
// (found.go), and these an answer cut to what the transport carries. It decides
// nothing about where a request runs. Source: spec/dns.md.
//
// There are two ways to an answer, which give the same bytes (TestPathsAgree):
//
//   - hot (hot.go): A, AAAA, SRV and ANY questions for services and nodes over UDP,
//     read from the packet and written into the reply by hand, some 15 times
//     cheaper than the other;
//   - full (answer.go): everything, through miekg/dns, with recursors, prepared
//     queries, reverse names, the zone's own records, and TCP.
//
// One goroutine reads each UDP socket, and there is a socket for each processor.
// It answers what needs no waiting (rpc.Request.NoWait) and gives every other
// question a goroutine of its own, of which there is a bounded number: a slow
// answer delays nobody else's. Every question has a deadline.
//
// Both ways ask the backend for every question, so an answer is as fresh as the
// backend is; what they keep (cache.go) is the work of decoding an answer that has
// not changed since.
//
// A question the dispatcher cannot answer is SERVFAIL, an unknown name NXDOMAIN
// with the zone's SOA, a name outside our zones goes to the recursors or is
// REFUSED. Messages that cannot be read are answered with FORMERR up to a rate and
// then left alone. A bug that one question meets is logged and counted, and ends
// that question only.
package dnsapi
