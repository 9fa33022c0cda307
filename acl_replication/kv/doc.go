// Package kv copies keys from another datacenter, one way: a prefix there to a prefix
// here (kv_replication).
//
//	leader here: Copy -> replica.Follower -> Remote (the WAN) -> Source, at the leader there
//	             replica.Follower -> consensus.Apply -> fsm -> state
//
// A key is copied with its value and flags. Locks and sessions are a datacenter's own:
// they are neither copied nor touched. What is below the target is the copy's: a key
// that somebody writes there by hand is found by the next proof, and goes; what was
// there before the first copy is held until somebody approves. Keys whose name in the
// source begins with an excluded prefix are left out on both sides.
//
// What is promised of deletions says package replica; the guard is that of ACL
// replication. A datacenter without contact to the source keeps what it has.
//
// Methods may be called concurrently; a Copy's Run has one caller. Outside: who may
// ask (forwarding/endpoint), and how the source is reached (Remote).
package kv
