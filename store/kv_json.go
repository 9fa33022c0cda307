package store

import (
	"bytes"
	"encoding/base64"
)

// maxCachedValue bounds the values whose JSON is kept: beyond it base64 costs
// little beside sending the answer, and keeping it would double the memory.
const maxCachedValue = 1024

// AppendJSON appends the entry as the HTTP API shows it.
func (e *KVEntry) AppendJSON(b []byte) []byte { return e.appendJSON(b, e.Value) }

func (e *KVEntry) appendJSON(b, value []byte) []byte {
	b = append(b, '{')
	b = fieldUint(b, "LockIndex", e.LockIndex)
	b = fieldString(b, "Key", e.Key)
	b = fieldUint(b, "Flags", e.Flags)
	b = field(b, "Value")
	if len(value) == 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, value)
		b = append(b, '"')
	}
	if e.Session != "" {
		b = fieldString(b, "Session", e.Session)
	}
	b = fieldUint(b, "CreateIndex", uint64(e.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(e.ModifyIndex))
	return append(b, '}')
}

// JSON returns the entry's JSON, shared: callers must not change it. It is
// encoded once, except for large values, which are encoded anew on each call.
func (e *KVEntry) JSON() []byte {
	if len(e.Value) > maxCachedValue {
		return e.AppendJSON(make([]byte, 0, len(e.Value)*4/3+len(e.Key)+192))
	}
	return fragment(&e.json, e.AppendJSON)
}

// Clone returns a copy that shares nothing with e.
func (e *KVEntry) Clone() *KVEntry {
	return &KVEntry{Key: e.Key, Value: bytes.Clone(e.Value), Flags: e.Flags, Session: e.Session,
		LockIndex: e.LockIndex, CreateIndex: e.CreateIndex, ModifyIndex: e.ModifyIndex}
}
