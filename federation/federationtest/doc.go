// Package federationtest runs whole datacenters of real federation/node agents in
// one process, in virtual time, so that a test can tell the story of an outage in
// a fraction of a second:
//
//	federationtest.Run(t, func(f *federationtest.Federation) {
//		east, west := f.DC("east"), f.DC("west")
//		f.Must(east.Server(0).Join(west.Server(0)))
//		f.Partition(east, west)
//		...
//	}, federationtest.DC("east", 3), federationtest.DC("west", 3))
//
// What is real: everything above the sockets, QUIC and its TLS included. What is
// simulated: the TCP port of Raft and RPC (streams in memory), the LAN pool's UDP
// and TCP, the WAN's UDP packets, and the disk of Raft, which survives Crash. HTTP
// and DNS listen nowhere; a Host's methods call its HTTP handler.
//
// Paths are between hosts: Partition and Heal work on everything between two
// sides, Slow and Lossy on the WAN's packets. Crash takes the power away: nobody
// is told. A cut or crashed peer is silent, it does not refuse.
//
// All of it belongs into the goroutine tree of one Run; a Federation's methods may
// be called concurrently, except for those that change a host's life (Crash,
// Restart, Stop, Leave), of which there is one at a time for each host. When the
// test has failed, the last lines of each agent's log are printed.
package federationtest
