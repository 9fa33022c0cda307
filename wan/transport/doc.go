// Package transport carries everything that goes between datacenters over one
// UDP socket: one quic.Transport that listens and dials, with mutual TLS 1.3.
// The ALPN name tells four protocols apart:
//
//   - gossip: packets as QUIC datagrams, push/pull on bidirectional streams
//     (Endpoint.Gossip is a memberlist.NodeAwareTransport);
//   - rpc: sessions of many streams (Session satisfies forwarding/rpc's Session
//     with std types; this package imports nothing of ours);
//   - enroll: one stream before the peer has a certificate of the federation;
//   - relay: the packets of an RPC connection between two servers that have no path
//     to each other, carried by a third, which cannot read them (tunnel.go, relay.go).
//
// What it promises. A gossip or RPC connection exists only between two servers
// whose certificates passed the TLS configs handed in by Config, and a dialed
// one only if the peer presented the name that was dialed; nothing here trusts
// an address. Sending gossip never blocks the caller: each peer has a bounded
// queue that drops its oldest packet and counts. A peer that restarts on its
// address is noticed in about a round trip plus a second, since the stateless
// reset key is derived from a secret kept in the data folder (LoadSecret).
// Idle connections end after 60 s and are opened again on demand; there are no
// keep-alives: who waits for an answer sends pings of its own.
//
// Handshakes are bounded before anything is authenticated: their number, their
// time, the source address validated as soon as there are many, enrolment per
// source address. Whatever is not QUIC, or belongs to nobody, is counted.
//
// All methods may be called concurrently. OnRPC and OnEnroll are set before
// Start. Outside: what travels on streams (forwarding/rpc), who is trusted
// (federation/trust), who is a member (wan/gossip).
package transport
