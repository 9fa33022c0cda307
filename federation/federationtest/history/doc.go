// Package history records what concurrent users saw of keys, over HTTP, and
// decides whether one order of their operations explains all of it: whether the
// history is linearizable.
//
// A Recorder keeps the operations; Load makes users who read, write, compare-and-
// set and delete, through any agents a test hands in, real processes or those of
// federationtest. Check searches for the order with porcupine, key by key, and
// says which operations fit in none.
//
// What is promised to users and therefore checked: every operation takes effect
// once, at one moment between its call and its answer; an operation without an
// answer takes effect once or never, at any later time; a value and the
// ModifyIndex it was read with belong together, and the index of a key grows with
// every change of it.
//
// Time is counted in events, not in seconds: what was answered before another
// call began happened before it, also in virtual time, where both have the same
// clock reading.
//
// Recorders may be used concurrently. Check is meant to run outside bubbles of
// virtual time, since its time limit is a real one.
package history
