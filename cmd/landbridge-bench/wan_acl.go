package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// aclToken is a token as the ACL API has it.
type aclToken struct{ AccessorID, SecretID string }

// replicas compares the tokens of the primary and of a follower of the secondary.
type replicas struct {
	t                  *trial
	primary, secondary *node
	local              map[string]bool // that are the secondary's own
}

// wanACL is W5: how long after the primary's acknowledgement a policy and a token
// are usable in the secondary, 2,000 tokens at once, and 400 creations and 400
// deletions around a cut of 20 s.
func wanACL(t *trial) {
	o := twoDCs()
	o.acl = true
	f := t.wan(o)
	r := &replicas{t: t, primary: f.dcs[0].leader(), secondary: f.dcs[1].follower()}
	t.check(r.primary.put("/v1/acl/policy", map[string]any{"Name": "bench", "Rules": `key_prefix "" { policy = "read" }`}, nil), "policy")
	t.check(t.until(30*time.Second, 200*time.Millisecond, "replication runs", func() error {
		var st struct{ Enabled, Running bool }
		if err := r.secondary.get("/v1/acl/replication", &st); err != nil {
			return err
		} else if !st.Running {
			return fmt.Errorf("%+v", st)
		}
		return nil
	}), "secondary")
	r.lags()

	local, err := ids(r.secondary)
	t.check(err, "tokens")
	first, err := ids(r.primary)
	t.check(err, "tokens")
	for id := range first {
		delete(local, id)
	}
	r.local = local

	count := t.num(2000, 200)
	kase := fmt.Sprintf("%d tokens, c=16", count)
	before, m := f.traffic(), t.meter()
	made, err := r.create(count)
	t.check(err, "create tokens")
	acked, took := time.Now(), m.read().took
	t.add(kase, "created in the primary", float64(count)/took.Seconds(), "tokens/s", higher)
	t.check(r.converge(2*time.Minute), "tokens")
	t.add(kase, "last acknowledgement until the secondary has all", time.Since(acked).Seconds(), "s", lower)
	u := m.read()
	t.add(kase, "first creation until the secondary has all", u.took.Seconds(), "s", lower)
	t.add(kase, "WAN bytes per token", (f.traffic().Bytes-before.Bytes)/float64(count), "B", lower)
	t.add(kase, "CPU of the agents per token, with our polling", float64(u.agents.Microseconds())/float64(count), "us", lower)
	r.cut(f, made)
}

// lags measures at random phases of whatever the secondary does in turns.
func (r *replicas) lags() {
	t := r.t
	var policies, tokens []time.Duration
	for i := range t.num(30, 6) {
		t.sleep(time.Duration(rand.Int64N(int64(1500 * time.Millisecond))))
		var policy struct{ ID string }
		t.check(r.primary.put("/v1/acl/policy", map[string]any{"Name": fmt.Sprintf("bench-%d", i), "Rules": `key "a" { policy = "read" }`}, &policy), "policy")
		acked := time.Now()
		t.check(t.until(time.Minute, 5*time.Millisecond, "it is in dc2", func() error { return r.secondary.reads("/v1/acl/policy/" + policy.ID) }), "policy")
		policies = append(policies, time.Since(acked))

		t.sleep(time.Duration(rand.Int64N(int64(1500 * time.Millisecond))))
		token, err := r.createOne()
		t.check(err, "token")
		acked = time.Now()
		t.check(t.until(time.Minute, 5*time.Millisecond, "it is in dc2", func() error {
			_, err := r.secondary.requestAs(token.SecretID, "GET", "/v1/acl/token/self", nil, 10*time.Second)
			return err
		}), "token")
		tokens = append(tokens, time.Since(acked))
	}
	slices.Sort(policies)
	slices.Sort(tokens)
	t.addLatencies("policy", "lag ", policies, .5, 1)
	t.addLatencies("token", "lag ", tokens, .5, 1)
}

func (r *replicas) createOne() (token aclToken, err error) {
	err = r.primary.put("/v1/acl/token", map[string]any{"Description": "bench", "Policies": []any{map[string]any{"Name": "bench"}}}, &token)
	return token, err
}

// create creates tokens with 16 writers; it may be called from any goroutine.
func (r *replicas) create(count int) ([]aclToken, error) {
	made := make([]aclToken, count)
	err := each(count, 16, func(_, i int) (err error) {
		made[i], err = r.createOne()
		return err
	})
	return made, err
}

// ids are the accessor ids of all tokens that a node lists.
func ids(n *node) (map[string]bool, error) {
	var list []aclToken
	if err := n.get("/v1/acl/tokens", &list); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, t := range list {
		out[t.AccessorID] = true
	}
	return out, nil
}

// differences counts the primary's tokens that the secondary lacks, and those that
// it has beyond them and its own.
func (r *replicas) differences() (missing, extra int, err error) {
	want, err := ids(r.primary)
	if err != nil {
		return 0, 0, err
	}
	got, err := ids(r.secondary)
	if err != nil {
		return 0, 0, err
	}
	for id := range want {
		if !got[id] {
			missing++
		}
	}
	for id := range got {
		if !want[id] && !r.local[id] {
			extra++
		}
	}
	return missing, extra, nil
}

func (r *replicas) converge(limit time.Duration) error {
	return r.t.until(limit, 250*time.Millisecond, "the secondary has the primary's tokens", func() error {
		missing, extra, err := r.differences()
		if err == nil && missing+extra > 0 {
			err = fmt.Errorf("%d missing, %d extra", missing, extra)
		}
		return err
	})
}

// cut cuts the link while tokens are created and deleted in the primary.
func (r *replicas) cut(f *federation, made []aclToken) {
	t := r.t
	d := t.dur(20*time.Second, 8*time.Second)
	kase := fmt.Sprintf("cut of %s", d)
	batch := len(made) / 20
	changes := make(chan error, 1)
	go func() {
		var errs []error
		for i := range 4 {
			_, err := r.create(batch)
			errs = append(errs, err, each(batch, 4, func(_, k int) error {
				_, err := r.primary.request("DELETE", "/v1/acl/token/"+made[i*batch+k].AccessorID, nil, 30*time.Second)
				return err
			}))
			time.Sleep(d / 4)
		}
		changes <- errors.Join(errs...)
	}()
	t.sleep(500 * time.Millisecond)
	f.link("cut", "dc1", "dc2")
	t.sleep(d)
	f.link("heal")
	healed := time.Now()
	t.check(<-changes, "changes during the cut")
	changed := time.Now()
	t.check(r.converge(3*time.Minute), kase)
	t.add(kase, "healing until the secondary is equal", time.Since(healed).Seconds(), "s", lower)
	t.add(kase, "last change until the secondary is equal", time.Since(changed).Seconds(), "s", lower)
	t.sleep(3 * time.Second)
	missing, extra, err := r.differences()
	t.check(err, kase)
	t.add(kase, "tokens lost in the end", float64(missing), "", lower)
	t.add(kase, "deleted tokens still there in the end", float64(extra), "", lower)
}
