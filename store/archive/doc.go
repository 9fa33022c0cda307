// Package archive is the file that an operator keeps of a datacenter's state: what
// `snapshot save` writes and `snapshot restore` reads.
//
// It is a gzip stream of a tar file with three members, in this order:
//
//	meta.json   Meta: which moment of which Raft group this is
//	state.bin   the state, in a form of its own (store/fsm)
//	SHA256SUMS  the checksums of the other two, as sha256sum writes them
//
// The envelope is the one of the Consul HTTP API, so that tools read meta.json of
// either; state.bin is not exchangeable.
//
// Write and Reader hold no more than a buffer in memory, whatever the size. Nothing
// that a Reader gives is proven before its Verify has returned nil: a restore reads
// the whole archive into a file first. Concurrency: none; each belongs to one
// goroutine. What a state.bin means, and what a restore changes, is not decided
// here.
package archive
