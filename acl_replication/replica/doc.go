// Package replica copies rows one way, from a Source to a Sink, and keeps proving
// that both are equal. What the rows mean is not its business: it knows them by
// kind, id and digest.
//
//	Follow: changes in the source's order, from a position    -> Sink.Apply
//	proof:  roots of hash trees at a position, in that stream  -> equal, or compare
//	compare: trees, then the leaves that differ, then rows     -> Sink.Apply
//
// Promises. A change costs its own bytes. A Follower goes on from the position in
// the Sink, whoever wrote it; when the source does not know that position any more,
// or proves different, both are compared and only what differs is sent. A row that
// was deleted in the source never comes back by itself.
//
// Deletions that the stream tells are made at once. Those that are only inferred,
// since the source merely lacks a row, are held back when there are more than the
// Guard allows, and always when the source is another cluster, has another history,
// or went back: an empty or old source must not wipe its copies. They wait for
// Approve, or for the source to have the rows again. The fence that says so is part
// of the Sink's cursor, so it outlives a Follower; what exactly is held is found
// again by comparing.
//
// A Follower's Run has one caller; all other methods may be called concurrently.
// Outside: how a Source is reached, and how a Sink makes rows and cursor durable
// together.
package replica
