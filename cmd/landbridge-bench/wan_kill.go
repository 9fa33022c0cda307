package main

import "time"

// wanKill is W4.kill: the leader of the other datacenter is killed under 50 reads/s,
// later a follower; then the link loses 10 % of the packets for a minute.
func wanKill(t *trial) {
	f := t.wan(twoDCs())
	f.seed(false)
	n, remote := f.dcs[0].follower(), f.dcs[1]
	for _, who := range []string{"leader", "follower"} {
		victim := remote.leader()
		if who == "follower" {
			victim = remote.follower()
		}
		killed := make(chan time.Time, 1)
		kill := time.AfterFunc(3*time.Second, func() { killed <- time.Now(); victim.kill() })
		samples := t.openLoop(n, readX, 50, t.dur(30*time.Second, 15*time.Second), time.Minute)
		if kill.Stop() {
			t.failf("the load ended before the kill")
		}
		t.addOutage("kill -9 of a remote "+who, samples, <-killed, 3*roundTrip)
		victim.start()
		t.waitWritable(remote.servers, time.Minute)
		f.waitJoined()
		if who == "leader" {
			// Consul gives a server that was away its vote back 10 s after its return.
			t.sleep(25 * time.Second)
		}
	}
	t.lossyLink(f, n)
}

// lossyLink loses 10 % of the packets and counts members that are taken for failed.
func (t *trial) lossyLink(f *federation, n *node) {
	const kase = "10 % loss"
	f.link("set", "dc1", "dc2", "loss=10%")
	d := t.dur(time.Minute, 15*time.Second)
	loaded := make(chan []sample, 1)
	go func() { loaded <- t.openLoop(n, readX, 10, d, time.Minute) }()
	failures, unlisted := 0, 0
	status := map[string]int{} // as each server sees each member
	for end := time.Now().Add(d); time.Now().Before(end); t.sleep(500 * time.Millisecond) {
		for _, s := range f.servers() {
			var members []struct {
				Name   string
				Status int
			}
			if s.get("/v1/agent/members?wan=1", &members) == nil {
				for _, m := range members {
					key := s.name + " sees " + m.Name
					if status[key] == 1 && m.Status != 1 {
						failures++
					}
					status[key] = m.Status
				}
			}
			if s.knows(2) != nil {
				unlisted++
			}
		}
	}
	samples := <-loaded
	latencies, failed := answered(samples)
	t.add(kase, "members seen to fail, by all servers", float64(failures), "", lower)
	t.add(kase, "answers without both datacenters", float64(unlisted), "", lower)
	t.add(kase, "reads from the other datacenter failed", 100*float64(failed.sum())/float64(len(samples)), "%", lower)
	t.addLatencies(kase, "reads from the other datacenter ", latencies, .5, .99)
}
