package raftlog

import (
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Recent entries are read back at once: by the FSM's feeder on followers, by
// one sender per follower on the leader. raft-wal reads 64 KB from the file
// for each, so the last few stay in memory. Both bounds hold: the bytes are
// about eight full groups, more than two in flight need.
const (
	cacheEntries = 256 // a power of two
	cacheBytes   = 2 << 20
)

// cache holds the newest entries of the log. One writer at a time (walStore's
// turn); readers need no lock.
type cache struct {
	slots [cacheEntries]atomic.Pointer[raft.Log]
	bytes int    // writer only
	first uint64 // writer only: lowest index that may be held
	next  uint64 // writer only: one above the highest index held; 0 = empty
}

func (c *cache) get(index uint64, out *raft.Log) bool {
	l := c.slots[index%cacheEntries].Load()
	if l == nil || l.Index != index {
		return false
	}
	*out = *l
	return true
}

// put adds an entry, which must follow the last one; otherwise the cache
// begins anew with it.
func (c *cache) put(l *raft.Log) {
	if l.Index != c.next {
		c.clear()
		c.first, c.next = l.Index, l.Index
	}
	cp := *l // the original is part of a future; Data is shared, nobody changes it
	size := len(l.Data) + len(l.Extensions)
	for c.first < c.next && (c.bytes+size > cacheBytes || c.next-c.first >= cacheEntries) {
		c.evict()
	}
	if size > cacheBytes {
		c.first = l.Index + 1
	} else {
		c.slots[l.Index%cacheEntries].Store(&cp)
		c.bytes += size
	}
	c.next = l.Index + 1
}

func (c *cache) evict() {
	slot := &c.slots[c.first%cacheEntries]
	if l := slot.Load(); l != nil && l.Index == c.first {
		c.bytes -= len(l.Data) + len(l.Extensions)
		slot.Store(nil)
	}
	c.first++
}

// drop forgets the entries from index min to max.
func (c *cache) drop(min, max uint64) {
	if c.next == 0 || max < c.first || min >= c.next {
		return
	}
	c.clear()
}

func (c *cache) clear() {
	for i := range c.slots {
		c.slots[i].Store(nil)
	}
	c.bytes, c.first, c.next = 0, 0, 0
}
