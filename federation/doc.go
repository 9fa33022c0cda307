// Package federation is the directory of datacenters: which there are, which
// servers each has, which of them answer, and how far away they are.
//
// It follows the WAN pool and what calls report. One goroutine (Run) owns the
// picture and publishes a snapshot that readers take without a lock; what callers
// report about a peer is kept beside it. Gossip is hearsay: it says who exists,
// but a server that answers is used whatever gossip says of it, and one that does
// not answer goes to the end of the list for a while.
//
// Below: node puts a process together, httpapi and dnsapi are its front ends,
// trust its identity between datacenters, federationtest whole datacenters in one
// process for tests.
package federation
