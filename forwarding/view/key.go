package view

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
)

// keySize is the room that the keys of usual requests fit in, so that looking
// one up allocates nothing.
const keySize = 256

// appendKey appends all that decides the body of an answer: two requests with one
// key get one answer. The token is part of it, byte for byte: what one token may
// see is never filtered for another. dc is the request's datacenter, "" for our
// own in whatever way it was named.
func appendKey(b []byte, req *rpc.Request, dc string) []byte {
	var flags byte
	if req.TranslateWAN {
		flags |= 1
	}
	if req.Query.PassingOnly {
		flags |= 2
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(req.Method))
	b = append(b, byte(req.Representation), flags)
	b = appendText(b, dc)
	b = appendText(b, req.Token)
	b = appendText(b, req.SourceDC)
	b = appendText(b, req.Query.Name)
	if folds(req.Method) {
		// Resolvers change the case of names at random (0x20): one name, one view.
		for i := len(b) - len(req.Query.Name); i < len(b); i++ {
			if c := b[i]; 'A' <= c && c <= 'Z' {
				b[i] = c + 'a' - 'A'
			}
		}
	}
	b = appendText(b, req.Filter)
	b = appendText(b, req.Query.Near)
	b = appendText(b, req.Query.Separator)
	b = binary.AppendUvarint(b, uint64(len(req.Query.Tags)))
	for _, t := range req.Query.Tags {
		b = appendText(b, t)
	}
	if len(req.Query.NodeMeta) > 0 {
		keys := make([]string, 0, len(req.Query.NodeMeta))
		for k := range req.Query.NodeMeta {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			b = appendText(b, k)
			b = appendText(b, req.Query.NodeMeta[k])
		}
	}
	return append(b, req.Body...)
}

// appendText appends a text so that no two lists of texts look the same.
func appendText(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// folds is whether the catalog finds the method's name in any case.
func folds(m rpc.MethodID) bool {
	switch m {
	case rpc.CatalogServiceNodes, rpc.CatalogConnectNodes, rpc.CatalogNodeServices, rpc.CatalogNodeServiceList,
		rpc.CatalogNode, rpc.HealthNode, rpc.HealthChecks, rpc.HealthService, rpc.HealthConnect:
		return true
	}
	return false
}

// memory remembers which keys came up lately: those of its newest generation and
// of the one before. It holds hashes only, and forgets early when many come.
type memory struct {
	seed   maphash.Seed
	period time.Duration // a generation lasts so long
	most   int           // and holds so many at most

	mu       sync.Mutex
	began    time.Time
	new, old map[uint64]struct{}
}

func newMemory(period time.Duration, most int) *memory {
	return &memory{seed: maphash.MakeSeed(), period: period, most: most}
}

// seen notes a key and reports whether it had come up before.
func (m *memory) seen(key []byte) bool {
	h := maphash.Bytes(m.seed, key)
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	_, found := m.new[h]
	if !found {
		_, found = m.old[h]
	}
	switch age := now.Sub(m.began); {
	case age >= 2*m.period:
		found = false
		m.old, m.new, m.began = nil, nil, now
	case age >= m.period || len(m.new) >= m.most:
		m.old, m.new, m.began = m.new, nil, now
	}
	if m.new == nil {
		m.new = make(map[uint64]struct{})
	}
	m.new[h] = struct{}{}
	return found
}
