package view

import (
	"context"
	"strconv"
	"strings"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// Control is what a reader of ?cached allows, by its Cache-Control header. Only
// methods whose answers cannot be followed heed it.
type Control struct {
	MaxAge       time.Duration // below 0: any
	Revalidate   bool          // ask the servers first in any case
	StaleIfError time.Duration // how old an answer may be if they do not
}

// ErrControl is a Cache-Control header that says nothing.
var ErrControl = &store.Error{Kind: store.KindBadRequest, Message: "Invalid Cache-Control header."}

// ParseControl reads the values of Cache-Control. Directives that are not about
// answers from a cache are left out.
func ParseControl(values []string) (Control, error) {
	c := Control{MaxAge: -1}
	for _, v := range values {
		for d := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
			var err error
			switch strings.ToLower(name) {
			case "must-revalidate":
				c.Revalidate = true
			case "max-age":
				c.MaxAge, err = seconds(value)
			case "stale-if-error":
				c.StaleIfError, err = seconds(value)
			}
			if err != nil {
				return c, err
			}
		}
	}
	if c.MaxAge == 0 {
		c.Revalidate = true
	}
	return c, nil
}

func seconds(v string) (time.Duration, error) {
	n, err := strconv.ParseUint(strings.Trim(v, `"`), 10, 31)
	if err != nil {
		return 0, ErrControl
	}
	return time.Duration(n) * time.Second, nil
}

// Answer is an answer to a read with ?cached, or with a bound for an older one.
type Answer struct {
	*rpc.Response
	Hit     bool          // nobody was asked for it
	Age     time.Duration // of one that is kept: since when it may have changed
	Instead Instead
}

// Cacheable is whether ?cached means something for a method (spec http-common 8).
func Cacheable(m rpc.MethodID) bool {
	switch m {
	case rpc.CatalogServices, rpc.CatalogServiceNodes, rpc.CatalogConnectNodes, rpc.HealthService, rpc.HealthConnect:
		return true
	}
	return simple(m)
}

// simple is whether answers are kept without following them.
func simple(m rpc.MethodID) bool { return m == rpc.CatalogDatacenters || m == rpc.QueryExecute }

// Cached answers a read with ?cached: from a view, which is there from the first
// call on; for methods that cannot be followed from the newest answer, as c allows;
// and on a server, for its own datacenter, from its own state.
func (s *Set) Cached(ctx context.Context, req *rpc.Request, c Control) (Answer, error) {
	var room [keySize]byte
	key := appendKey(room[:0], req, s.datacenter(req))
	if simple(req.Method) {
		return s.kept(ctx, req, key, c)
	}
	if s.ours(req) {
		hit := s.local.seen(key) || req.Method == rpc.TrustRoots // it has them before anybody asks
		a, err := s.past(ctx, req)
		if err == nil {
			a.Hit, a.Age = hit, a.LastContact
		}
		return a, err
	}
	return s.viewed(ctx, req, key)
}

// viewed answers from a view: at once, or when its index exceeds MinIndex or Wait
// is over.
func (s *Set) viewed(ctx context.Context, req *rpc.Request, key []byte) (Answer, error) {
	var timeout <-chan time.Time
	for expired, waited := false, false; ; waited = true {
		now := time.Now()
		v, st := s.peek(key, now)
		hit := v != nil
		if !hit {
			var err error
			v, st, hit, err = s.get(ctx, req, key, forgetAfter)
			if err == errEvicted || err == errStopped {
				return s.past(ctx, req)
			}
			if err != nil {
				return Answer{}, err
			}
		}
		if st.older(req.MaxStale, now) {
			return s.past(ctx, req)
		}
		if req.MinIndex == 0 || st.resp.Index > req.MinIndex || expired {
			hit = hit || waited || !st.live
			s.count(st, hit)
			return Answer{Response: st.answer(now), Hit: hit, Age: st.age(now)}, nil
		}
		if timeout == nil {
			d := req.Wait
			if d <= 0 {
				d = s.cfg.QueryTime
			}
			t := time.NewTimer(d)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-v.changes(st.resp.Index):
		case <-timeout:
			expired = true
		case <-ctx.Done():
			return Answer{}, ended(ctx, req)
		}
	}
}

// past answers without a view.
func (s *Set) past(ctx context.Context, req *rpc.Request) (Answer, error) {
	s.metrics.passed.Inc()
	stale := *req
	stale.Consistency = store.Stale
	resp, err := s.Do(ctx, &stale)
	return Answer{Response: resp}, err
}

// kept answers with what the last fetch brought, as far as c allows.
func (s *Set) kept(ctx context.Context, req *rpc.Request, key []byte, c Control) (Answer, error) {
	s.mu.RLock()
	v := s.views[string(key)]
	s.mu.RUnlock()
	now := time.Now()
	var st *state
	if v != nil {
		st = v.cur.Load()
	}
	hit := func() (Answer, error) {
		v.used.Store(now.UnixNano())
		s.metrics.hits.Inc()
		return Answer{Response: st.resp, Hit: true, Age: now.Sub(st.at)}, nil
	}
	if st != nil && !c.Revalidate && (c.MaxAge < 0 || now.Sub(st.at) <= c.MaxAge) {
		return hit()
	}
	stale := *req
	stale.Consistency = store.Stale
	resp, err := s.Do(ctx, &stale)
	if err != nil {
		now = time.Now()
		if st != nil && !final(err) && now.Sub(st.at) <= c.StaleIfError {
			return hit()
		}
		return Answer{}, err
	}
	s.metrics.misses.Inc()
	s.keep(req, string(key), resp)
	return Answer{Response: resp}, nil
}

// keep makes an answer that nobody follows the state of a view that rests.
func (s *Set) keep(req *rpc.Request, key string, resp *rpc.Response) {
	now := time.Now()
	s.mu.Lock()
	if s.stopped || int64(len(resp.Body)) > s.cfg.MaxBytes/4 {
		s.mu.Unlock()
		return
	}
	v := s.views[key]
	if v == nil {
		v = s.add(req, key)
	}
	v.used.Store(now.UnixNano())
	v.cur.Store(&state{resp: resp, at: now, lost: now})
	s.mu.Unlock()
	s.resized(v, len(resp.Body))
}
