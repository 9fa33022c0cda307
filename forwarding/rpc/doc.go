// Package rpc carries requests between agents: the envelope and its codec, the
// frames, the client and the server of a Session, and a pool of clients.
//
// # On the wire
//
// A stream begins with two bytes: its kind and the protocol version (1).
//
//   - A lane (kind 1) lives as long as its session and carries frames of many
//     calls both ways: [id uint32, type uint8, length uint32, payload], big
//     endian. A client opens a few and spreads its calls over them by id.
//   - A call (kind 2) is one request frame and one answer frame: requests whose
//     envelope is larger than ClientConfig.BulkBytes.
//   - An answer (kind 3) is opened by the server for one answer frame whose body
//     is larger than ServerConfig.BulkBytes: 32 KB between datacenters, 256 KB
//     inside one. So a bulky answer never blocks the small ones behind it, and
//     costs no further round trip.
//   - A piece (kind 5) is 128 KB of an answer of 256 KB and more that a server laid
//     apart, between datacenters: the answer's frame in the lane is a ticket, and
//     the client fetches pieces over connections that carry nothing else, so that
//     calls never share a congestion window with bulk, nor bulk is held to one.
//   - A stream of bytes (kind 4) is one call of a method with Stream: a request
//     frame, data frames and an end frame one way; an answer frame and, if it
//     announces them, data frames and an end frame the other way. An error frame in
//     place of any of these ends its direction, also after bytes. Nothing of it is
//     held but one frame per direction; who takes no bytes for a minute loses it.
//
// Blocking queries wait in a lane: they cost there a map entry, and a changed
// result that is bulky travels on a stream of its own anyway.
//
// Envelopes are tagged fields (store/wire): unknown ones are skipped, so a field
// may be added without a new protocol version.
//
// # Promises
//
//   - A call ends when its context is done; then a cancel frame stops the server.
//   - The time left travels with the request and bounds the context of the server.
//   - An error keeps its kind and message: errors.Is gives the same answer here
//     as on the server.
//   - When a session ends, each call that waits on it ends at once: KindUnreachable
//     if nothing was applied (not sent, or safe to repeat), KindMaybeApplied if a
//     call that must not be repeated was handed to the connection.
//   - While calls wait and nothing arrives, pings are sent; three in a row without
//     a sign of life end the session. An idle session costs nothing.
//   - Memory follows the bytes received, never a declared length. Calls in flight,
//     bytes of requests, streams and lanes are bounded; what is over is refused
//     with KindRateLimited or KindTooLarge, and counted.
//
// Each side of a session has one role: NewClient for the side that calls,
// Server.ServeSession for the side that answers. All exported methods may be
// called concurrently.
//
// Outside: which server a request goes to, and whether it is tried again
// (package forwarding); connections and TLS (lan/stream, wan/transport).
package rpc
