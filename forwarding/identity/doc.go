// Package identity finds out who has a secret, and so what a request may do.
//
//	server:       State  — from its own state, compiled once until ACLs change;
//	              a secret it does not know it asks the leader for, or the primary
//	client agent: Remote — from a server, kept for a while
//
// Promises. On a server a change of ACLs is felt by the next request, and a token
// is gone at the moment it expires. A client agent feels a change after its time to
// live at the latest. While no server answers it does what acl.down_policy says. A
// secret is compared by its hash in constant time, held by its hash alone, and
// neither logged nor part of an error or a metric.
//
// What is found costs a hash and a look at one slot of a table; tokens with the same
// policies share what was compiled of them. Both are bounded.
//
// All methods may be called concurrently. A Remote owns the goroutines that refresh
// what it keeps; Stop waits for them.
//
// Outside: what a method needs (forwarding/endpoint), and the language of policies
// (store/acl).
package identity
