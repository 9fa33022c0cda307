// Package gossip is the pool of all servers of all datacenters: lan/gossip with
// the WAN profile, over the QUIC transport of wan/transport.
//
// Members are named "<node>.<dc>", and the name's datacenter must be the one in
// the member's tags. Nothing in this pool grants trust: the transport lets only
// servers of the federation speak, and what they say about others is hearsay.
package gossip
