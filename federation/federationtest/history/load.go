package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Load is a number of users who work on the same keys.
type Load struct {
	First   int // number of the first user; loads of one Recorder need different ones
	Clients int
	Readers int // more users, who only read
	Keys    []string
	Seed    uint64
	// Pause is the longest time a user thinks between two operations.
	Pause time.Duration
	// Timeout ends an operation without an answer.
	Timeout time.Duration
	// Via picks the agent for the next operation of a user.
	Via func(client int, rng *rand.Rand) Via
	// Block is the share of reads that wait for a change of what the user has
	// read before, 0 to 1.
	Block float64
}

// Run lets the users work until ctx is done, and waits for the last answers.
func (l Load) Run(ctx context.Context, r *Recorder) {
	var all sync.WaitGroup
	for i := range l.Clients + l.Readers {
		all.Go(func() {
			u := &user{Load: &l, r: r, id: l.First + i, rng: rand.New(rand.NewPCG(l.Seed, uint64(l.First+i))), seen: map[string]Op{}}
			for ctx.Err() == nil {
				u.work(ctx)
			}
		})
	}
	all.Wait()
}

// ReadAll lets one more user read every key once through an agent.
func (l Load) ReadAll(ctx context.Context, r *Recorder, via Via) error {
	var errs []error
	for _, key := range l.Keys {
		_, err := r.Do(ctx, via, Op{Client: l.First + l.Clients + l.Readers, Kind: Read, Key: key})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

type user struct {
	*Load
	r    *Recorder
	id   int
	n    int
	rng  *rand.Rand
	seen map[string]Op // the latest answered read of each key
}

// work is one operation and the pause after it. A user who was refused goes on
// with a pause, not at once.
func (u *user) work(ctx context.Context) {
	via := u.Via(u.id, u.rng)
	op := Op{Client: u.id, Key: u.Keys[u.rng.IntN(len(u.Keys))]}
	seen, known := u.seen[op.Key]
	switch p := u.rng.IntN(100); {
	case p < 45 || u.id >= u.First+u.Clients:
		op.Kind = Read
		if known && seen.Found && u.rng.Float64() < u.Block {
			via.Params = append(append([]string(nil), via.Params...), fmt.Sprint("index=", seen.Index), "wait=200ms")
		}
	case p < 62:
		op.Kind = Put
	case p < 92 && known:
		op.Kind = CAS
		if seen.Found {
			op.Index = seen.Index
		}
	case p < 96 && known && seen.Found:
		op.Kind, op.Index = DeleteCAS, seen.Index
	case p < 98:
		op.Kind = Delete
	default:
		op.Kind = CAS // create
	}
	if op.Kind == Put || op.Kind == CAS {
		u.n++
		op.Value = fmt.Sprintf("%d-%d", u.id, u.n)
	}
	// The answer is waited for also after ctx is done: a cut-off operation only
	// makes the history harder to decide.
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.Timeout)
	defer cancel()
	op, err := u.r.Do(call, via, op)
	if err == nil && op.Kind == Read {
		u.seen[op.Key] = op
	}
	t := time.NewTimer(time.Duration(u.rng.Int64N(int64(u.Pause) + 1)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
