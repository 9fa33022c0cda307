// Package state keeps a datacenter's records in memory: tables with their
// indexes, the watches of blocking queries, and the images that snapshots are
// made of. store/fsm feeds it from the Raft log; forwarding/endpoint reads it.
//
// Promises. Apply gives every command an index of its own, one higher than the
// last, and applies a whole batch under one lock hold: no reader sees half of
// it. The outcome depends on the commands and the state alone, so that all
// servers agree; the one exception is the age of tombstones, which never makes
// an index smaller. A command that changes nothing (an idempotent write, a
// refused one) changes no record's index and wakes nobody. The index a read
// returns never goes backwards, except over Restore, and is never below 1.
// A read registers its Watch atomically with what it returns: a change after it
// is never missed.
//
// Concurrency. All methods of Store may be called at once. Records and slices
// handed out are shared and immutable. A Watch belongs to one reader.
//
// Locks. Store.mu comes first; copyMu and registry.mu nest inside it and never in
// each other. Watches are woken after Store.mu is released.
//
// Outside it: durability, leadership, time-outs of blocking queries, ACLs,
// filters and sorting by distance.
package state
