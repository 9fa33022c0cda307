package view

import (
	"container/list"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
)

// replies holds the last good reply to each question that was asked with a bound
// (Set.Bounded), the longest unused go first when there are too many bytes. The
// key holds the token: a reply is for who got it.
type replies struct {
	most    int64
	evicted func()

	mu    sync.Mutex
	byKey map[string]*list.Element // of *reply
	order list.List                // the latest used first
	bytes int64
}

// reply is immutable, but for what its list does with it.
type reply struct {
	key     string
	resp    *rpc.Response
	at      time.Time     // when the server that gave it was in touch with its leader
	changed chan struct{} // closed when it is replaced or forgotten; nil: nobody waits
}

// overhead of a reply beside its key and body.
const replyOverhead = 256

func (r *reply) size() int64 { return int64(len(r.key)+len(r.resp.Body)) + replyOverhead }

func (r *reply) age(now time.Time) time.Duration { return max(now.Sub(r.at), 0) }

func (k *replies) init(most int64, evicted func()) {
	k.most, k.evicted, k.byKey = most, evicted, make(map[string]*list.Element)
	k.order.Init()
}

// get returns the reply of a key, nil if there is none, and marks it as used.
func (k *replies) get(key []byte) *reply {
	k.mu.Lock()
	defer k.mu.Unlock()
	el := k.byKey[string(key)]
	if el == nil {
		return nil
	}
	k.order.MoveToFront(el)
	return el.Value.(*reply)
}

// changes is closed when r is not the key's reply any more.
func (k *replies) changes(r *reply) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	el := k.byKey[r.key]
	if el == nil || el.Value.(*reply) != r {
		return closed
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// put keeps a reply, unless the one that is there is of a later state. One that
// would take a quarter of the room alone is not kept.
func (k *replies) put(key []byte, resp *rpc.Response, now time.Time) {
	at := now.Add(-resp.LastContact)
	k.mu.Lock()
	defer k.mu.Unlock()
	el := k.byKey[string(key)]
	if el != nil {
		if el.Value.(*reply).at.After(at) {
			return
		}
		k.remove(el)
	}
	r := &reply{key: string(key), resp: resp, at: at}
	if r.size() > k.most/4 {
		return
	}
	k.byKey[r.key] = k.order.PushFront(r)
	k.bytes += r.size()
	for k.bytes > k.most {
		k.remove(k.order.Back())
		k.evicted()
	}
}

// confirm notes that a reply was still current at a time.
func (k *replies) confirm(key []byte, r *reply, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	el := k.byKey[string(key)]
	if el == nil || el.Value.(*reply) != r || !at.After(r.at) {
		return
	}
	next := &reply{key: r.key, resp: r.resp, at: at, changed: r.changed}
	r.changed = nil // those who wait, wait for another answer
	el.Value = next
}

// forget drops what is kept under a key.
func (k *replies) forget(key []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if el := k.byKey[string(key)]; el != nil {
		k.remove(el)
	}
}

// remove takes a reply out; mu is held.
func (k *replies) remove(el *list.Element) {
	r := k.order.Remove(el).(*reply)
	delete(k.byKey, r.key)
	k.bytes -= r.size()
	if r.changed != nil {
		close(r.changed)
	}
}

// load is how much is kept.
func (k *replies) load() (entries int, bytes int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.byKey), k.bytes
}
