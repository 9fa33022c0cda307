package federation

import (
	"testing"
	"time"
)

func TestLoss(t *testing.T) {
	var l links
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	take := func(after time.Duration, paths ...PathSample) {
		now = now.Add(after)
		l.take(now, paths)
	}
	check := func(what string, want float64, known bool) {
		t.Helper()
		if got, ok := l.loss("n.dc2", now); got != want || ok != known {
			t.Errorf("%s: loss %v, %v, want %v, %v", what, got, ok, want, known)
		}
	}
	check("never seen", 0, false)
	take(0, PathSample{Peer: "n.dc2", Connection: 1, Sent: 10, Lost: 1, Received: 5})
	check("too few to tell", 0, false)
	take(5*time.Second, PathSample{Peer: "n.dc2", Connection: 1, Sent: 100, Lost: 10, Received: 5})
	check("one connection", 0.1, true)
	if got := l.contact("n.dc2"); !got.Equal(now.Add(-5 * time.Second)) {
		t.Errorf("last contact %s, want when something had arrived", got)
	}
	// Another connection takes over, and counts from zero.
	take(5*time.Second, PathSample{Peer: "n.dc2", Connection: 2, Sent: 100, Lost: 0, Received: 1})
	check("two connections", 0.05, true)
	// A packet that was thought lost came late: nothing is counted twice.
	take(5*time.Second, PathSample{Peer: "n.dc2", Connection: 2, Sent: 100, Lost: 0, Received: 2}, PathSample{Peer: "", Connection: 3, Sent: 9, Lost: 9})
	check("one that enrols has no name", 0.05, true)
	take(lossSteps*lossStep, PathSample{Peer: "n.dc2", Connection: 2, Sent: 140, Lost: 20, Received: 2})
	check("old loss is forgotten", 0.5, true)
	if got := l.lossLately("n.dc2"); got < 0.49 || got > 0.5 {
		t.Errorf("lately: loss %v, want nearly 0.5", got)
	}
	take(lossHalfLife, PathSample{Peer: "n.dc2", Connection: 2, Sent: 200, Lost: 20, Received: 2})
	if got := l.lossLately("n.dc2"); got < 0.12 || got > 0.13 {
		t.Errorf("a half-life later: loss %v, want some 0.125", got)
	}
	check("and before", 0.2, true)
	take(2 * time.Hour)
	if len(l.peers) != 0 {
		t.Error("a peer that is gone is remembered for ever")
	}
}

func TestMatrix(t *testing.T) {
	lossy, clean := 0.2, 0.0
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	s := Status{
		Datacenters: []DatacenterStatus{{Name: "dc1"}, {Name: "dc2"}, {Name: "dc3"}},
		Rows: []Row{
			{Server: "b.dc1", Datacenter: "dc1", Links: []Link{
				{To: "a.dc2", Datacenter: "dc2", Reachable: true, RTT: 0.3, Loss: &clean, LastContact: at},
				{To: "a.dc3", Datacenter: "dc3", OneWay: true},
			}, Breakers: []Breaker{{Datacenter: "dc3", State: "leaderless"}}},
			{Server: "a.dc1", Datacenter: "dc1", Links: []Link{
				{To: "a.dc2", Datacenter: "dc2", Reachable: true, RTT: 0.1, Loss: &lossy, LastContact: at.Add(time.Second)},
				{To: "a.dc3", Datacenter: "dc3"},
			}, Breakers: []Breaker{{Datacenter: "dc3", State: "unreachable"}}},
			{Server: "a.dc2", Datacenter: "dc2", Links: []Link{
				{To: "a.dc1", Datacenter: "dc1", Reachable: true, RTT: 0.1, Loss: &clean},
				{To: "b.dc1", Datacenter: "dc1"},
			}},
		},
		Missing: []Missing{{Datacenter: "dc3", Error: "no answer"}},
	}
	s.Finish()
	type cell struct {
		links, reachable   int
		unknown, asymmetry bool
		rtt                float64
		breaker            string
	}
	got := map[string]cell{}
	for _, p := range s.Matrix {
		got[p.From+">"+p.To] = cell{p.Links, p.Reachable, p.Unknown, p.Asymmetric, p.RTT, p.Breaker}
		if p.From == "dc1" && p.To == "dc2" && (p.Loss == nil || *p.Loss != 0.1 || !p.LastContact.Equal(at.Add(time.Second))) {
			t.Errorf("dc1>dc2: loss %v, contact %s", p.Loss, p.LastContact)
		}
	}
	for pair, want := range map[string]cell{
		"dc1>dc2": {2, 2, false, true, 0.3, ""}, // lossy one way, and b is not reached from there
		"dc2>dc1": {2, 1, false, true, 0.1, ""},
		"dc1>dc3": {2, 0, false, true, 0, "unreachable"},
		"dc3>dc1": {unknown: true},
		"dc2>dc3": {},
	} {
		if got[pair] != want {
			t.Errorf("%s: %+v, want %+v", pair, got[pair], want)
		}
	}
	if len(got) != 6 || s.Rows[0].Server != "a.dc1" {
		t.Errorf("%d cells, the first row is of %s", len(got), s.Rows[0].Server)
	}
}
