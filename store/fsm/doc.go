// Package fsm is the Raft state machine: it turns log entries into commands for a
// store/state.Store, and the store into snapshot streams and back.
//
// A log entry is a batch (group commit): a version byte, then for each command its
// kind, flags and payload. Apply applies the batch under one lock hold and
// returns []store.Result, one result per command.
//
// A snapshot stream is a header and checksummed frames; each checksum continues
// the one before it, and a trailer counts the records, so that damage, truncation
// and reordering are all found. Restore reads and verifies the whole stream before
// it touches the state; after an error nothing has changed.
//
// Meeting a command it does not know, and may not skip, stops the process: going
// on would leave this server with another state than its peers.
//
// Concurrency: Raft calls Apply, Snapshot and Restore from one goroutine, and
// Persist beside Apply. Outside it: the log itself and snapshot files
// (store/raftlog), who may write (store/consensus).
package fsm
