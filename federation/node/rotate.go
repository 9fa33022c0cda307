package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"landbridge/forwarding"
)

// A client agent stays with a server for at least stayTime, so that all of them
// together change theirs at most rotateRate times a second for each server.
const (
	stayTime    = 2 * time.Minute
	rotateRate  = 64
	pingTimeout = 2 * time.Second
)

// stay is how long a client agent of a cluster of that size stays with a server;
// up to half of it is added at random.
func stay(members, servers int) time.Duration {
	return max(stayTime, time.Duration(members)*time.Second/time.Duration(rotateRate*max(servers, 1)))
}

// rotate has this client agent change its server from time to time, so that client
// agents stay spread over servers that come and go. Queries that wait at the old
// one wait on there.
func (v *lanView) rotate(ctx context.Context, members func() int) error {
	for {
		d := stay(members(), len(v.Servers()))
		t := time.NewTimer(d + rand.N(d/2))
		select {
		case <-t.C:
			v.turn(ctx)
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// turn makes a server at random the first, if it answers.
func (v *lanView) turn(ctx context.Context) {
	servers := v.Servers()
	if len(servers) < 2 {
		return
	}
	p := servers[rand.IntN(len(servers))]
	if p == servers[0] {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if v.ping(ctx, p) != nil {
		return // calls find out for themselves when they need it
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.Index(v.servers, p); i > 0 {
		v.servers = slices.Insert(slices.Delete(v.servers, i, i+1), 0, p)
	}
}

// pingServer asks a server for a sign of life.
func (v *lanView) pingServer(ctx context.Context, p forwarding.Peer) error {
	c, err := v.pool.Get(ctx, p.Addr, p.Name)
	if err != nil {
		return err
	}
	return c.Ping(ctx)
}
