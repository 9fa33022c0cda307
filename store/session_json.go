package store

import (
	"slices"
	"strconv"
)

// AppendJSON appends the session as the HTTP API shows it.
func (s *Session) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "ID", s.ID)
	b = fieldString(b, "Name", s.Name)
	b = fieldString(b, "Node", s.Node)
	b = strconv.AppendInt(field(b, "LockDelay"), int64(s.LockDelay), 10)
	b = fieldString(b, "Behavior", s.Behavior)
	b = fieldString(b, "TTL", s.TTL)
	b = fieldStrings(b, "NodeChecks", s.NodeChecks)
	b = field(b, "ServiceChecks")
	if len(s.ServiceChecks) == 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		for i, id := range s.ServiceChecks {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(fieldString(append(b, '{'), "ID", id), '}')
		}
		b = append(b, ']')
	}
	b = fieldUint(b, "CreateIndex", uint64(s.CreateIndex))
	b = fieldUint(b, "ModifyIndex", uint64(s.ModifyIndex))
	return append(b, '}')
}

// JSON returns the session's JSON, encoded once and shared: callers must not
// change it.
func (s *Session) JSON() []byte { return fragment(&s.json, s.AppendJSON) }

// Clone returns a copy that shares nothing with s.
func (s *Session) Clone() *Session {
	return &Session{ID: s.ID, Name: s.Name, Node: s.Node, LockDelay: s.LockDelay, Behavior: s.Behavior, TTL: s.TTL,
		NodeChecks: slices.Clone(s.NodeChecks), ServiceChecks: slices.Clone(s.ServiceChecks),
		CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex}
}
