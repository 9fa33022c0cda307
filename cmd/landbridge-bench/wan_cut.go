package main

import (
	"slices"
	"sync"
	"time"
)

// wanCut is W4.cut: a cut of a minute under 2 reads/s from the other datacenter and
// 100 local ones. A "hang" is how long a read from the other datacenter waited
// until its error; those that were answered or failed after healing do not count.
func wanCut(t *trial) {
	f := t.wan(twoDCs())
	f.seed(false)
	n := f.dcs[0].follower()
	local := "/v1/kv/ready/" + n.name
	before, _ := answered(t.openLoop(n, local, 100, t.dur(10*time.Second, 3*time.Second), 30*time.Second))
	f.link("cut", "dc1", "dc2")
	d := t.dur(time.Minute, 15*time.Second)
	var remote []sample
	var wg sync.WaitGroup
	wg.Go(func() { remote = t.openLoop(n, readX, 2, d, 2*time.Minute) })
	during, failed := answered(t.openLoop(n, local, 100, d, 30*time.Second))
	f.link("heal")
	healed := time.Now()
	t.add("heal", "until a read from the other datacenter works", t.firstAnswer(n, readX, healed).Seconds(), "s", lower)
	t.check(f.onServers(2*time.Minute, 100*time.Millisecond, "reads from all", f.readsFromAll), "after healing")
	t.add("heal", "until all servers read from the other datacenter", time.Since(healed).Seconds(), "s", lower)
	wg.Wait()

	var hangs, early []time.Duration
	for _, s := range remote {
		if s.err == nil || s.due.Add(s.took).After(healed) {
			continue
		}
		hangs = append(hangs, s.took)
		if s.due.Sub(remote[0].due) < 5*time.Second {
			early = append(early, s.took)
		}
	}
	slices.Sort(hangs)
	slices.Sort(early)
	t.addLatencies("cut", "hang until the error, ", hangs, .5, 1)
	t.addLatencies("cut", "hang of requests of the first 5 s, ", early, .5)
	answers, errs := answered(remote)
	t.notef("cut: of %d reads from the other datacenter %d were answered, after healing; %s", len(remote), len(answers), errs)
	t.addLatencies("cut", "local reads before, ", before, .5, .99)
	t.addLatencies("cut", "local reads during, ", during, .5, .99)
	t.add("cut", "local reads failed", float64(failed.sum()), "", lower)
}

// firstAnswer asks every 100 ms, whether or not earlier requests were answered, and
// returns how long after a moment the first answer came.
func (t *trial) firstAnswer(n *node, path string, since time.Time) time.Duration {
	answer := make(chan time.Duration, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 600 {
		wg.Go(func() {
			if _, err := n.request("GET", path, nil, 20*time.Second); err == nil {
				select {
				case answer <- time.Since(since):
				default:
				}
			}
		})
		select {
		case d := <-answer:
			return d
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.failf("%s: no answer within a minute of healing", path)
	return 0
}
