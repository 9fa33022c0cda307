package endpoint

import (
	"hash/maphash"
	"sync/atomic"

	"landbridge/forwarding/endpoint/filter"
	"landbridge/forwarding/rpc"
)

// predicates compiles the filters of one kind of row and keeps the ones used
// last: the same client sends the same expression with every request, and
// compiling costs hundreds of times more than evaluating.
type predicates[T any] struct {
	schema filter.Schema[T]
	seed   maphash.Seed
	slots  [predicateSlots]atomic.Pointer[compiled[T]]
}

const (
	predicateSlots = 64
	predicateLimit = 2 << 10 // bytes of an expression that is kept
)

type compiled[T any] struct {
	expr  string
	match filter.Predicate[T]
}

func newPredicates[T any](schema filter.Schema[T]) *predicates[T] {
	return &predicates[T]{schema: schema, seed: maphash.MakeSeed()}
}

// of returns the predicate of a request's filter, nil if it has none.
func (p *predicates[T]) of(req *rpc.Request) (filter.Predicate[T], error) {
	if req.Filter == "" {
		return nil, nil
	}
	slot := &p.slots[maphash.String(p.seed, req.Filter)%predicateSlots]
	if c := slot.Load(); c != nil && c.expr == req.Filter {
		return c.match, nil
	}
	match, err := filter.Compile(req.Filter, p.schema)
	if err != nil {
		return nil, err
	}
	if len(req.Filter) <= predicateLimit {
		slot.Store(&compiled[T]{req.Filter, match})
	}
	return match, nil
}
