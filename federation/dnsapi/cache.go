package dnsapi

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"

	"landbridge/forwarding/rpc"
)

// cache keeps what answers were made of, so that a question about something
// unchanged costs a look-up instead of decoding all its instances.
//
// It needs no invalidation and has no age: the backend is asked for every
// question, and an entry is good for exactly the body it was made of. The backend
// hands out the very same bytes until they change, so their address tells, as long
// as the entry holds them and the address cannot be used again; bytes that came
// over the network are compared.
//
// Names nobody has leave no entry, or a flood of them would push out the others.
type cache struct {
	seed  maphash.Seed
	slots [cacheSets][cacheWays]atomic.Pointer[entry]
	bytes atomic.Int64
	next  atomic.Uint32 // where to make room
}

// Names that fall on one set push each other out: with four ways that is rare
// below a few thousand names.
const (
	cacheSets  = 1024
	cacheWays  = 4
	cacheBytes = 32 << 20 // in all
	entryBytes = 8 << 20  // of one: some ten thousand instances
)

// entry is immutable.
type entry struct {
	key   string
	set   *Settings
	token string
	// req is the question as the backend gets it; the same for all, so it is made
	// once. It does not wait.
	req   *rpc.Request
	body  []byte
	found *found // nil: none of the instances may be shown
	size  int
}

func (c *cache) ways(key []byte) *[cacheWays]atomic.Pointer[entry] {
	return &c.slots[maphash.Bytes(c.seed, key)%cacheSets]
}

// get returns the entry of a key for these settings and token, nil if there is
// none.
func (c *cache) get(key []byte, set *Settings, token string) *entry {
	ways := c.ways(key)
	for i := range ways {
		if e := ways[i].Load(); e != nil && e.key == string(key) && e.set == set && e.token == token {
			return e
		}
	}
	return nil
}

// put keeps an entry in the place of an older one of its key, of none, or of
// another. Two at once for one key may both stay: either is good.
func (c *cache) put(e *entry) {
	e.size = len(e.key) + len(e.body) + 256
	if e.found != nil {
		e.size += e.found.size()
	}
	if e.size > entryBytes {
		return
	}
	ways := c.ways([]byte(e.key))
	at := int(c.next.Add(1) % cacheWays)
	for i := range ways {
		old := ways[i].Load()
		if old == nil {
			at = i
		} else if old.key == e.key {
			at = i
			break
		}
	}
	c.swap(&ways[at], e)
	for range cacheSets { // at most once around
		if c.bytes.Load() <= cacheBytes {
			return
		}
		ways := &c.slots[c.next.Add(1)%cacheSets]
		for i := range ways {
			c.swap(&ways[i], nil)
		}
	}
}

func (c *cache) swap(slot *atomic.Pointer[entry], e *entry) {
	if e != nil {
		c.bytes.Add(int64(e.size))
	}
	if old := slot.Swap(e); old != nil {
		c.bytes.Add(-int64(old.size))
	}
}

// same is whether two bodies are equal: nearly always they are one.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || bytes.Equal(a, b))
}
