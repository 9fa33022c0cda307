// Package trust is the federation's certificate authority: who a server of
// another datacenter is, and how a datacenter becomes part of the federation.
//
// The first leader of a datacenter makes a root and an intermediate and keeps
// them in the datacenter's own Raft state (store.Trust). The leader signs each
// server's certificate with the intermediate; Run keeps this server's valid. A
// `wan join` (Join on one side, ServeEnroll on the other) proves on both sides
// that the same gossip key is held, bound to the TLS channel, and then the
// winner's root signs the other datacenter's intermediate. Which side wins is
// in decide.go; it does not depend on who dialed when it matters. A token of the
// primary (token.go) stands in for the key.
//
// What all datacenters share, roots, members and evictions, is the primary's to
// change; the others follow it (sync.go). Roots replace each other without an
// interruption (rotate.go), and evicted servers are refused (revoke.go). When the
// primary is gone, another datacenter is promoted (promotion.go), and the others
// follow that one with its new root (succession.go).
//
// # Promises
//
//   - A certificate is accepted on a gossip or RPC channel only if it is a
//     server's, not expired, not revoked, carries the expected name, and was
//     signed by the intermediate of the datacenter it names, below a root in
//     this datacenter's record, directly or by roots that replaced it. This holds on
//     resumed sessions too.
//   - A root is taken over only if one that is trusted here certified it, or with a
//     promotion of a higher term: signed by a member's intermediate, and, with
//     ACLs on, for an operator's token that is good here or by an operator's word.
//   - Nothing about a joiner is stored before it proved itself and no refusal
//     applies.
//   - A datacenter's record changes only by compare-and-set on what the decision
//     was based on: two joins at once leave one root, never two swapped ones.
//   - A server that restarts serves its old certificate at once, without leader.
//
// # Enrolment on the wire
//
// One stream, frames of a 4-byte length and a tagged message with a version
// (messages.go). The dialing side sends its hello: facts, a request for its
// intermediate's present key, and its proof; the accepting side answers same,
// refused (kind and words), granted (roots and intermediate, with its proof) or
// reverse (its own request, with its proof), which the dialing side answers
// with the grant and the accepting side with done. A proof is an HMAC-SHA256
// under a key derived from the gossip key over: the side's label, both names,
// the hash of everything it says (the answer's covers the hello), and the TLS
// exporter. The side that got the last message closes.
//
// # Concurrency
//
// All methods of Authority may be called concurrently. Run is called once and
// owns the certificate; TLS handshakes read an immutable snapshot of it.
//
// # Outside
//
// The TLS of the LAN port, the sockets (wan/transport dials and accepts), where
// a call runs (the Doer in Config), and what happens after a join (gossip).
package trust
