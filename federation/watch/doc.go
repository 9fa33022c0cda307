// Package watch follows what the HTTP interface shows - a key, a service, the
// nodes - and hands each new value to a handler: a program, an HTTP endpoint, or
// a function. It serves the watches of an agent's configuration (Set) and the
// watch command (Plan.Run).
//
// What it promises. A handler sees the value at the start, unless the watch is
// for events, and then every state the value comes to rest in: two handlers of
// one watch never run at the same time, and what changes while one runs is
// handed over as one change when it has ended. Answers that differ only in their
// index are no change. Events are handed over one by one in their order, each
// once, as far as the agent still keeps them.
//
// How. A Plan asks by blocking queries. The index of an answer goes into the next
// query; it starts again from none when it fell, and after an error, since the
// servers may have been restored meanwhile; 0 is never sent. Errors are retried
// with growing, jittered waits.
//
// A Plan is immutable, and may run several times at once. Set is safe for
// concurrent use.
package watch
