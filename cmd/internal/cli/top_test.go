package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"landbridge/cmd/internal/client"
	"landbridge/federation"
)

// topSamples are two looks, two seconds apart, at so many datacenters of three
// servers; the last one is down.
func topSamples(n int) (before, now *topSample) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	make := func(at time.Time, index uint64, asked float64) *topSample {
		s := &topSample{at: at, dcs: map[string]*topDatacenter{}, counted: map[string]float64{"landbridge_httpapi_requests_total": asked}}
		s.status = federation.Status{Datacenter: "dc0", Server: "dc0-s1.dc0", At: at, Primary: "dc0", FederationID: "f"}
		lag := 0.25
		for i := range n {
			name := fmt.Sprint("dc", i)
			dc := federation.DatacenterStatus{Name: name}
			for j := range 3 {
				dc.Servers = append(dc.Servers, federation.ServerStatus{Name: fmt.Sprintf("s%d.%s", j, name), Answering: i == 0 || i < n-1})
			}
			s.status.Datacenters = append(s.status.Datacenters, dc)
			s.dcs[name] = &topDatacenter{leader: name + "-s1", index: index, usage: &client.Usage{Nodes: 12, Services: 7}, lag: &lag}
			if i == 0 {
				s.dcs[name].lag = nil
				continue
			}
			p := federation.Pair{From: "dc0", To: name, Links: 9, Reachable: 9, RTT: 0.0804}
			if i == n-1 {
				s.dcs[name] = &topDatacenter{}
				p.Reachable, p.RTT = 0, 0
			}
			s.status.Matrix = append(s.status.Matrix, p)
		}
		return s
	}
	return make(at, 100, 10), make(at.Add(2*time.Second), 125, 110)
}

func TestTopView(t *testing.T) {
	before, now := topSamples(3)
	v := topView(now, before)
	const want = `landbridge top - 12:00:02 - 3 datacenters, primary dc0; asked dc0-s1.dc0

Datacenter  State  Servers  Leader  RTT     Loss  Log/s  Services  Nodes  ACL lag
dc2         DOWN   0/3      -       -       -     -      -         -      -
dc0*        ok     3/3      dc0-s1  -       -     12.5   7         12     -
dc1         ok     3/3      dc1-s1  80.4ms  -     12.5   7         12     250ms

A second, at this agent: 50.0 HTTP requests, 0.0 DNS questions, 0.0 requests to other datacenters, 0.0 refused by limits
! dc0 -> dc2: 0 of 9 links answer, nothing ever arrived
`
	if got := v.text(Env{}, 0, 0); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	colored := v.text(Env{Color: true}, 0, 0)
	if !strings.Contains(colored, "\033["+red+"mdc2") || !strings.Contains(colored, "\033["+dim+"mDatacenter") {
		t.Errorf("colors are missing: %q", colored)
	}
	// A counter that starts again, and the first look, have no rates below zero.
	back := topView(before, now)
	if back.Rates != nil || back.Datacenters[1].EntriesPerSecond != nil {
		t.Errorf("rates of a time that went back: %+v", back)
	}
	if first := topView(now, nil); first.Rates != nil || strings.Contains(first.text(Env{}, 0, 0), "A second") {
		t.Error("the first look shows rates")
	}
}

// TestTopFits: whatever the size, no line is too long and there is none too many; what
// there is most need of is shown.
func TestTopFits(t *testing.T) {
	for _, n := range []int{1, 3, 40} {
		before, now := topSamples(n)
		v := topView(now, before)
		for width := 1; width <= 140; width++ {
			for _, height := range []int{1, 2, 3, 4, 5, 10, 24, 60} {
				for _, color := range []bool{false, true} {
					text := v.text(Env{Color: color}, width, height)
					if color {
						text = stripColor(text)
					}
					lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
					if len(lines) > max(height-1, 1) {
						t.Fatalf("%d datacenters at %dx%d: %d lines", n, width, height, len(lines))
					}
					for _, l := range lines {
						if utf8.RuneCountInString(l) > width {
							t.Fatalf("%d datacenters at %dx%d: %d columns: %s", n, width, height, utf8.RuneCountInString(l), l)
						}
					}
					if n == 3 && width >= 20 && height == 5 && !strings.HasPrefix(lines[2], "dc2") {
						t.Fatalf("at %dx%d: %q", width, height, lines)
					}
					if n == 40 && width >= 20 && height >= 10 {
						if !strings.HasPrefix(lines[3], "dc39") {
							t.Fatalf("at %dx%d the first datacenter is %q, want the one that is down", width, height, lines[3])
						}
						if height == 10 && lines[8] != "and 35 more" {
							t.Fatalf("at %dx%d the last line is %q", width, height, lines[8])
						}
					}
				}
			}
		}
	}
}

func stripColor(s string) string {
	for _, c := range []string{"0", red, green, dim} {
		s = strings.ReplaceAll(s, "\033["+c+"m", "")
	}
	return s
}
