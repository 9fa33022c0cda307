package view

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// flights are the calls under way that others may join, by their key.
type flights struct {
	mu   sync.Mutex
	open map[string]*flight
}

func (f *flights) init() { f.open = make(map[string]*flight) }

// flight is one call with those who wait for its answer. One of them leads: it
// makes the call in its own goroutine and for its own time. When it leaves without
// an answer for all, another one takes the lead and asks the same again, so nobody
// notices. The channels are made when a second one joins.
type flight struct {
	waiting int           // how many are in it, the leader too
	lead    chan struct{} // holds 1: nobody leads
	done    chan struct{} // closed when resp or err is there
	resp    *rpc.Response
	err     error
	began   time.Time // of a call for those whose wait is over
}

// shares is whether a request may join a call that was sent before it came: stale
// reads, and blocking ones of the default mode, whose answer is asked for again
// with its index anyway.
func (s *Set) shares(req *rpc.Request, m *rpc.Method) bool {
	if m == nil || m.Write || m.Stream || !m.Repeatable || req.NoWait || s.ours(req) {
		return false
	}
	return req.Consistency == store.Stale || blocks(req, m) && req.Consistency == store.Default
}

func blocks(req *rpc.Request, m *rpc.Method) bool { return m.Blocking && req.MinIndex > 0 }

// Do passes a request on to the dispatcher, or has it join a call under way.
func (s *Set) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	m := rpc.Lookup(req.Method)
	if !s.shares(req, m) {
		return s.cfg.Do.Do(ctx, req)
	}
	var room [keySize + 32]byte
	key := appendKey(room[:0], req, s.datacenter(req))
	key = append(key, byte(req.Consistency))
	key = binary.LittleEndian.AppendUint64(key, uint64(req.MinIndex))
	key = binary.LittleEndian.AppendUint64(key, uint64(req.MaxStale))

	f := &s.flights
	f.mu.Lock()
	call := f.open[string(key)]
	if call == nil {
		call = &flight{waiting: 1}
		name := string(key)
		f.open[name] = call
		f.mu.Unlock()
		return s.leads(ctx, req, m, name, call)
	}
	call.waiting++
	if call.done == nil {
		call.done, call.lead = make(chan struct{}), make(chan struct{}, 1)
	}
	f.mu.Unlock()
	s.metrics.joined.Inc()
	return s.joins(ctx, req, m, string(key), call)
}

// leads makes the call.
func (s *Set) leads(ctx context.Context, req *rpc.Request, m *rpc.Method, key string, call *flight) (*rpc.Response, error) {
	resp, err := s.cfg.Do.Do(ctx, req)
	f := &s.flights
	f.mu.Lock()
	defer f.mu.Unlock()
	call.waiting--
	switch {
	case call.waiting == 0:
		s.closes(key, call)
	case ctx.Err() != nil, err == nil && blocks(req, m) && resp.Index <= req.MinIndex:
		call.lead <- struct{}{} // the others wait on: it was our own time that is over
	default:
		s.closes(key, call)
		call.resp, call.err = resp, err
		close(call.done)
	}
	return resp, err
}

// closes lets nobody join a call any more; mu is held.
func (s *Set) closes(key string, call *flight) {
	if s.flights.open[key] == call {
		delete(s.flights.open, key)
	}
}

// joins waits for the answer of a call that another one leads.
func (s *Set) joins(ctx context.Context, req *rpc.Request, m *rpc.Method, key string, call *flight) (*rpc.Response, error) {
	began := time.Now()
	most := time.Duration(s.callMax.Load())
	if blocks(req, m) {
		most = req.Wait
		if most <= 0 {
			most = s.cfg.QueryTime
		}
		most += rand.N(most/16 + 1) // as the server does
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-call.done:
		return shared(call.resp), call.err
	case <-call.lead:
		next := *req
		if blocks(req, m) && req.Wait > 0 {
			next.Wait = max(req.Wait-time.Since(began), time.Millisecond)
		}
		return s.leads(ctx, &next, m, key, call)
	case <-t.C:
		s.leave(key, call)
		if !blocks(req, m) {
			return nil, store.Errorf(store.KindTimeout, "%s got no answer in %s", m.Name, most)
		}
		now := *req // its time is over: the answer is what is current
		now.MinIndex, now.Wait = 0, 0
		return s.late(ctx, &now, m, key, began)
	case <-ctx.Done():
		s.leave(key, call)
		return nil, ended(ctx, req)
	}
}

// late asks for what is current, on behalf of a blocking query whose wait is over.
// Many of them end at a time; one may take the answer to another's call that was
// sent after its own arrival: it is as new as its caller could ask for.
func (s *Set) late(ctx context.Context, req *rpc.Request, m *rpc.Method, key string, arrived time.Time) (*rpc.Response, error) {
	key += "late"
	f := &s.flights
	f.mu.Lock()
	call := f.open[key]
	if call == nil || call.began.Before(arrived) {
		call = &flight{waiting: 1, began: time.Now()}
		f.open[key] = call
		f.mu.Unlock()
		return s.leads(ctx, req, m, key, call)
	}
	call.waiting++
	if call.done == nil {
		call.done, call.lead = make(chan struct{}), make(chan struct{}, 1)
	}
	f.mu.Unlock()
	s.metrics.joined.Inc()
	return s.joins(ctx, req, m, key, call)
}

// shared marks an answer that was not asked for by its reader alone.
func shared(resp *rpc.Response) *rpc.Response {
	if resp == nil || resp.Route == "" {
		return resp
	}
	own := *resp
	own.Route += ", shared"
	return &own
}

// leave takes one that does not lead out of a call.
func (s *Set) leave(key string, call *flight) {
	f := &s.flights
	f.mu.Lock()
	defer f.mu.Unlock()
	if call.waiting--; call.waiting == 0 {
		s.closes(key, call)
	}
}
