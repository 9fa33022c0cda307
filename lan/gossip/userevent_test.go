package gossip_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"landbridge/lan/gossip"
	"landbridge/lan/gossip/gossiptest"
)

// inbox notes the user events of a pool.
type inbox struct {
	mu   sync.Mutex
	list []string
}

func (in *inbox) option(c *gossip.Config) {
	c.OnUserEvent = func(name string, payload []byte, ltime uint64) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.list = append(in.list, name+" "+string(payload))
	}
}

func (in *inbox) sorted() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := slices.Clone(in.list)
	slices.Sort(list)
	return list
}

func TestUserEventsReachAllOnce(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		net := gossiptest.NewNetwork(3)
		net.SetDelay(2 * time.Millisecond)
		net.SetLoss(0.05)
		var pools []*gossip.Pool
		var boxes []*inbox
		for i := range 10 {
			in := &inbox{}
			p := agent(t, net, i, in.option)
			defer stop(t, p)
			if i > 0 {
				join(t, p, 0)
			}
			pools, boxes = append(pools, p), append(boxes, in)
		}
		time.Sleep(5 * time.Second)
		var want []string
		for i, p := range pools[:3] {
			if err := p.UserEvent("e", fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("e %d", i))
		}
		until(t, 10*time.Second, "all have all events", func() bool {
			for _, in := range boxes {
				if len(in.sorted()) < 3 {
					return false
				}
			}
			return true
		})
		time.Sleep(2 * time.Minute) // exchanges of the full state bring nothing twice
		for i, in := range boxes {
			if got := in.sorted(); !slices.Equal(got, want) {
				t.Errorf("n%d got %v, want %v", i, got, want)
			}
		}
		// Who comes now gets what is fired from now on.
		in := &inbox{}
		late := agent(t, net, 20, in.option)
		defer stop(t, late)
		join(t, late, 4, 5)
		time.Sleep(time.Second)
		if err := pools[7].UserEvent("e", []byte("new")); err != nil {
			t.Fatal(err)
		}
		until(t, 10*time.Second, "the newcomer has the new event", func() bool { return len(in.sorted()) > 0 })
		time.Sleep(2 * time.Minute)
		if got := in.sorted(); !slices.Equal(got, []string{"e new"}) {
			t.Errorf("the newcomer got %v", got)
		}
	})
}

func TestUserEventSize(t *testing.T) {
	gossiptest.Bubble(t, func(t *testing.T) {
		in := &inbox{}
		p := agent(t, gossiptest.NewNetwork(1), 1, in.option)
		for size, want := range map[int]string{511: "", 512: "user event exceeds configured limit of 512 bytes before encoding", 20000: "user event exceeds configured limit of 512 bytes before encoding"} {
			err := p.UserEvent("e", []byte(strings.Repeat("x", size)))
			if got := fmt.Sprint(err); err == nil && want != "" || err != nil && got != want {
				t.Errorf("%d bytes: %v, want %q", size, err, want)
			}
		}
		time.Sleep(time.Second)
		if n := len(in.sorted()); n != 1 {
			t.Errorf("%d events came", n)
		}
		stop(t, p)
		if err := p.UserEvent("e", nil); err != gossip.ErrNotRunning {
			t.Errorf("after stop: %v", err)
		}
	})
}
