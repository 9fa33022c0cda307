// Package stream runs the one TCP port of a server inside its datacenter: Raft
// and RPC share it, told apart by a connection's first byte.
//
//	0x02  RPC: the rest is yamux, a session of many streams
//	0x03  Raft: a hello of who calls whom and its answer (hello.go), then
//	      hashicorp/raft's network transport
//	0x16  TLS (its handshake begins so): inside, again one of the first two
//
// Anything else is dropped and counted.
//
// # TLS
//
// Config.TLS holds functions, so that certificates are read anew for each
// connection. VerifyOutgoing dials with TLS and checks the server's certificate
// against the authorities; VerifyServerHostname also demands the name
// server.<datacenter>.<domain>, and then lets a Raft connection in only if its
// client has that name too: a client agent's certificate is no server's.
// VerifyIncoming refuses connections without TLS and without a certificate of
// the authorities.
//
// # Promises
//
// Listen has bound the port when it returns. A connection that has not said what
// it is within HandshakeTimeout is dropped. A Raft connection of another cluster, of
// a past of this one, or for another server is refused, with the reason at both ends. Connections per remote address and
// handshakes under way are bounded. Start and Stop are idempotent; Stop ends all
// sessions and Raft connections and waits for their goroutines. Sessions satisfy
// forwarding/rpc's Session, their streams net.Conn with deadlines; all exported
// methods may be called concurrently, OnSession before Start alone.
//
// Outside: what is called over a session (forwarding/rpc), pooling of sessions
// (rpc.Pool), the certificates themselves.
package stream
