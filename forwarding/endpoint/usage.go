package endpoint

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/state"
)

const (
	usageTimeout = 10 * time.Second // of one datacenter, when all are asked
	usageAtOnce  = 32
)

// usage tells how much the catalog holds. For all datacenters it asks each of the
// others; one that does not answer fails the request, since a total without it
// would be wrong.
func (s *Set) usage(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if err := wants(req, true); err != nil {
		return nil, err
	}
	return serve(ctx, s, req, func(st *state.Store, w *state.Watch, _ *store.Query) (store.Index, *store.Usage) {
		return st.Usage(w)
	}, checked, func(s *Set, req *rpc.Request, u *store.Usage, resp *rpc.Response) error {
		if req.Representation == rpc.Records {
			resp.Body = u.AppendWire(nil)
			return nil
		}
		all := map[string]*store.Usage{s.cfg.Datacenter: u}
		if req.Query.Name == rpc.UsageGlobal {
			if err := s.usageElsewhere(ctx, req, all); err != nil {
				return err
			}
		}
		return finish(req, resp, usageBody(all, resp))
	})
}

// usageBody is the answer of the HTTP API, which repeats what its headers say.
func usageBody(all map[string]*store.Usage, resp *rpc.Response) []byte {
	b := []byte(`{"Usage":{`)
	for i, dc := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(store.AppendJSONString(b, dc), ':')
		b = all[dc].AppendJSON(b)
	}
	b = append(b, `},"Index":`...)
	b = strconv.AppendUint(b, uint64(resp.Index), 10)
	b = append(b, `,"LastContact":`...)
	b = strconv.AppendInt(b, int64(resp.LastContact), 10)
	b = append(b, `,"KnownLeader":`...)
	b = strconv.AppendBool(b, resp.KnownLeader)
	b = append(b, `,"ConsistencyLevel":`...)
	b = store.AppendJSONString(b, resp.Effective.String())
	return append(b, `,"NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`...)
}

// usageElsewhere adds the usage of all other datacenters.
func (s *Set) usageElsewhere(ctx context.Context, req *rpc.Request, all map[string]*store.Usage) error {
	if s.cfg.Remote == nil {
		return nil
	}
	var mu sync.Mutex
	var failed []string
	var last error
	sem := make(chan struct{}, usageAtOnce)
	var wg sync.WaitGroup
	for _, dc := range s.cfg.Datacenters() {
		if dc == s.cfg.Datacenter {
			continue
		}
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			u, err := s.usageOf(ctx, req, dc)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed, last = append(failed, dc), err
				return
			}
			all[dc] = u
		})
	}
	wg.Wait()
	if len(failed) == 0 {
		return nil
	}
	slices.Sort(failed)
	return store.Errorf(store.KindOf(last), "no usage of %s: %w", strings.Join(failed, ", "), last)
}

func (s *Set) usageOf(ctx context.Context, req *rpc.Request, dc string) (*store.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	resp, err := s.cfg.Remote.Do(ctx, &rpc.Request{
		Method: rpc.OperatorUsage, Datacenter: dc, Token: req.Token, SourceDC: req.SourceDC, Hops: req.Hops,
		Consistency: req.Consistency, Representation: rpc.Records,
	})
	if err != nil {
		return nil, err
	}
	u := new(store.Usage)
	return u, u.DecodeWire(resp.Body)
}
