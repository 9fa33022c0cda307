// Package lock holds locks and semaphores by the recipes that all clients of the
// API share (spec/health-and-anti-entropy.md 8), so that it takes turns with
// theirs on the same prefix.
//
// A lock of one holder is the key PREFIX/.lock, acquired for a session. With more
// holders each one acquires a key of its own, PREFIX/SESSION, and enters itself
// in the list that PREFIX/.lock keeps by check-and-set; who has lost its session
// is struck off by the others.
//
// Promises. Acquire returns when the lock is held, or what kept it from being
// held; nothing of a failed attempt is left behind, if the agent can be reached.
// Held.Lost is closed when the lock is known to be lost, and at the latest one
// time to live after the last renewal that the servers confirmed: they end the
// session no earlier. Methods of Held may be called concurrently; Release ends
// all goroutines.
//
// Outside it: what is done while the lock is held.
package lock
