package federationtest_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// sample is how a read across ended.
type sample struct {
	at, took time.Duration
	err      error
}

// steady reads "here" of a datacenter at a host, so many a second, for a time.
func steady(f *Federation, h *Host, to *Datacenter, rate int, d time.Duration) []sample {
	var (
		all  sync.WaitGroup
		list = make([]sample, int(d.Seconds()*float64(rate)))
	)
	for i := range list {
		all.Go(func() {
			s := &list[i]
			s.at = f.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			reply, err := h.Call(ctx, http.MethodGet, "/v1/kv/here?raw&dc="+to.Name, "")
			if err == nil && reply.Code != 200 {
				err = fmt.Errorf("%d %s", reply.Code, reply.Body)
			}
			s.took, s.err = f.Now()-s.at, err
		})
		time.Sleep(time.Second / time.Duration(rate))
	}
	all.Wait()
	return list
}

func took(list []sample) (times []time.Duration) {
	for _, s := range list {
		times = append(times, s.took)
	}
	slices.Sort(times)
	return times
}

// One packet in ten is lost each way: no read fails, 99 of 100 take less than four and
// a half round trips, and nobody is taken for failed.
func TestLossyReads(t *testing.T) {
	for _, rate := range []int{10, 50} {
		t.Run(fmt.Sprintf("%d a second", rate), func(t *testing.T) {
			Run(t, func(f *Federation) {
				const rtt = 80 * time.Millisecond
				east, west := f.DC("east"), f.DC("west")
				f.Slow(east, west, rtt)
				fill(f, east, west)
				f.Must(east.Server(0).Join(west.Server(0)))
				f.Await(time.Second, "all read", bothWays(east, west))
				h := east.Followers()[0]
				steady(f, h, west, 50, 30*time.Second)
				f.Lossy(east, west, rtt, 0.1)
				steady(f, h, west, rate, 15*time.Second)
				list := steady(f, h, west, rate, 3000/time.Duration(rate)*time.Second)
				for _, s := range list {
					if s.err != nil {
						t.Errorf("at %s a read failed after %s: %v", s.at, s.took, s.err)
					}
				}
				times := took(list)
				p50, p99, most := times[len(times)/2], times[len(times)*99/100], times[len(times)-1]
				t.Logf("p50 %s, p99 %s = %.1f round trips, slowest %s", p50, p99, float64(p99)/float64(rtt), most)
				if p50 > rtt+5*time.Millisecond || p99 > 9*rtt/2 {
					t.Errorf("p50 %s and p99 %s are too slow", p50, p99)
				}
				for _, h := range f.Hosts() {
					wan, err := h.WAN()
					f.Must(err)
					for name, m := range wan {
						if m.Status != 1 {
							t.Errorf("%s lists %s with status %d", h.Name, name, m.Status)
						}
					}
				}
			}, DC("east", 3), DC("west", 3))
		})
	}
}

// A datacenter is cut off that few ask: each of them has an error within a second of
// asking, soon at once, whether servers there were connected to or not.
func TestCutIsNoticedSoon(t *testing.T) {
	for _, servers := range []int{1, 3, 5} {
		for _, asked := range []int{0, 1, 40} {
			t.Run(fmt.Sprintf("%d servers, asked %d times before", servers, asked), func(t *testing.T) {
				Run(t, func(f *Federation) {
					east, west := f.DC("east"), f.DC("west")
					f.Slow(east, west, 80*time.Millisecond)
					fill(f, east, west)
					f.Must(east.Server(0).Join(west.Server(0)))
					f.Await(2*time.Second, "all read", bothWays(east, west))
					time.Sleep(5 * time.Minute) // what is not used is closed
					h := east.Server(1)
					if asked > 0 {
						steady(f, h, west, 4, time.Duration(asked)*time.Second/4)
					}
					f.Partition(east, west)
					cut := f.Now()
					var worst time.Duration
					for _, s := range steady(f, h, west, 2, 20*time.Second) {
						worst = max(worst, s.took)
						switch {
						case s.err == nil:
							t.Errorf("%s into the cut a read is answered", s.at-cut)
						case s.took > 950*time.Millisecond, s.at-cut > 1500*time.Millisecond && s.took > 5*time.Millisecond:
							t.Errorf("%s into the cut an error took %s: %v", s.at-cut, s.took, s.err)
						}
					}
					t.Logf("the slowest error took %s", worst)
				}, DC("east", 2), DC("west", servers))
			})
		}
	}
}
