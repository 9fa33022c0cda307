package store

import "sync/atomic"

// KVEntry is one key of the key/value store (spec http-kv-txn-session 1).
// Immutable once published by the state store.
type KVEntry struct {
	Key         string
	Value       []byte
	Flags       uint64
	Session     string // id of the session that holds the lock, or ""
	LockIndex   uint64 // number of successful acquisitions
	CreateIndex Index
	ModifyIndex Index

	json atomic.Pointer[[]byte] // set once by JSON
}

// KVOp is what a KVCommand does. Numbers are on disk and on the wire.
type KVOp uint8

const (
	KVSet       KVOp = 1 // write value and flags
	KVCAS       KVOp = 2 // write if ModifyIndex equals Entry.ModifyIndex; 0: only if absent
	KVDelete    KVOp = 3
	KVDeleteCAS KVOp = 4 // delete if ModifyIndex equals; 0 never deletes an existing key
	KVDeleteAll KVOp = 5 // delete everything with prefix Entry.Key
	KVLock      KVOp = 6 // acquire for Entry.Session
	KVUnlock    KVOp = 7 // release for Entry.Session
)

// KVCommand is the payload of CmdKV. Its result's OK says whether it took effect.
type KVCommand struct {
	Op    KVOp
	Entry KVEntry
}
