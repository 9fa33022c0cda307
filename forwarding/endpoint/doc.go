// Package endpoint holds the methods a server answers: it reads the state or
// proposes a command, checks that this server may answer at all, and encodes the
// answer in the representation the request names. It is what the dispatcher
// calls when it has decided that a request runs here.
//
// Promises of a read. In default mode a quorum acknowledged this leader less than
// a lease ago, both before and after the state was read; in consistent mode
// leadership was verified after the request came and before the state was read;
// a stale read is answered by any server, with the time since it heard from the
// leader. A blocking query (MinIndex) returns when its own index passes MinIndex,
// or at its deadline with what is current; it ends with an error when leadership
// is lost, so that the dispatcher can go on elsewhere, and with its context.
//
// Bodies are joined from the fragments that records carry, encoded once however
// many requests read them. They are immutable: callers pass them on and never
// change them.
//
// A Set is safe for concurrent use and starts no goroutine. Where requests run,
// retries and deadlines are the dispatcher's business; methods whose work is done
// in other packages (federation/trust) are put in with Handle.
package endpoint
