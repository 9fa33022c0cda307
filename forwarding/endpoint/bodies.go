package endpoint

import (
	"hash/maphash"
	"sync/atomic"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// bodies keeps the newest encoded answer of the lists asked for most: joining
// 100 instances is 100 KB of copying and of garbage for each request, while the
// answer is the same until the list changes.
//
// It needs no invalidation: the state hands out the same immutable list until a
// row of it changes, so a body is good for exactly the list it was made of, and
// holding that list keeps its address from being used again. Two lists that fall
// on one slot push each other out. Bounded by slots times the largest body, 96 MB.
//
// Larger bodies have a few slots of their own, and only as records: that is what DNS
// asks for at every question, and decodes again unless it gets the very same bytes.
type bodies struct {
	seed  maphash.Seed
	slots [bodySlots]atomic.Pointer[encoded]
	large [largeSlots]atomic.Pointer[encoded]
}

const (
	bodySlots  = 256
	bodyLimit  = 256 << 10
	largeSlots = 8
	largeLimit = 4 << 20 // about ten thousand instances
)

// variant tells answers made of one list apart.
type variant struct {
	method  rpc.MethodID
	form    rpc.Representation
	passing bool
}

type encoded struct {
	of   *store.ServiceInstance // the list's first element
	n    int
	as   variant
	body []byte
}

func (b *bodies) init() { b.seed = maphash.MakeSeed() }

// places are the slots of an answer by its size: the second is nil where large ones
// are not kept.
func (b *bodies) places(name string, v variant) (small, large *atomic.Pointer[encoded]) {
	h := maphash.String(b.seed, name)
	h ^= uint64(v.method)*31 + uint64(v.form)*7
	if v.passing {
		h += 3
	}
	if v.form == rpc.Records {
		large = &b.large[h%largeSlots]
	}
	return &b.slots[h%bodySlots], large
}

// cached returns the body made of list, making it with encode if there is none.
// An empty list is not worth a slot.
func (b *bodies) cached(name string, list []store.ServiceInstance, v variant, encode func([]store.ServiceInstance) []byte) []byte {
	if len(list) == 0 {
		return encode(list)
	}
	small, large := b.places(name, v)
	for _, slot := range [...]*atomic.Pointer[encoded]{small, large} {
		if slot == nil {
			continue
		}
		if e := slot.Load(); e != nil && e.of == &list[0] && e.n == len(list) && e.as == v {
			return e.body
		}
	}
	e := &encoded{of: &list[0], n: len(list), as: v, body: encode(list)}
	switch {
	case len(e.body) <= bodyLimit:
		small.Store(e)
	case large != nil && len(e.body) <= largeLimit:
		large.Store(e)
	}
	return e.body
}
