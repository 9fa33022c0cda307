package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/forwarding"
	"landbridge/lan/gossip"
)

func serverMembers(n int) []gossip.Member {
	var list []gossip.Member
	for i := range n {
		list = append(list, gossip.Member{
			Name: fmt.Sprint("s", i+1), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Status: gossip.Alive,
			Tags: map[string]string{"role": "consul", "port": "8300", "id": fmt.Sprint("id", i+1)},
		})
	}
	return list
}

// Client agents spread over the servers, stay where they are for two minutes, and
// spread again over those that come; nobody moves to one that does not answer.
func TestClientsRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 300
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		mute := map[string]bool{}
		var views []*lanView
		for range clients {
			v := &lanView{self: "c", ping: func(_ context.Context, p forwarding.Peer) error {
				if mute[p.Name] {
					return errors.New("no answer")
				}
				return nil
			}}
			v.refresh(serverMembers(3))
			views = append(views, v)
			work.Go(func() { _ = v.rotate(ctx, func() int { return clients + 3 }) })
		}
		spread := func(want ...int) {
			t.Helper()
			got := map[string]int{}
			for _, v := range views {
				got[v.Servers()[0].Name]++
			}
			for i, n := range want {
				// Four standard deviations of 300 draws are at most 35.
				if g := got[fmt.Sprint("s", i+1)]; g < n-35 || g > n+35 || n == 0 && g != 0 {
					t.Errorf("at %v: %v, want about %v", time.Since(time.Unix(946684800, 0)), got, want)
				}
			}
		}
		spread(100, 100, 100)
		heads := make([]string, clients)
		for i, v := range views {
			heads[i] = v.Servers()[0].Name
			v.refresh(serverMembers(4))
		}
		time.Sleep(stayTime - time.Second)
		for i, v := range views {
			if v.Servers()[0].Name != heads[i] {
				t.Fatal("a client agent moved before its time")
			}
		}
		time.Sleep(time.Minute + 2*time.Second)
		spread(75, 75, 75, 75)
		mute["s4"] = true
		for _, v := range views { // as calls do that find it silent
			if v.Servers()[0].Name == "s4" {
				v.Failed(v.Servers()[0])
			}
		}
		time.Sleep(20 * time.Minute)
		spread(100, 100, 100, 0)
		cancel()
		work.Wait()
	})
}

func TestStay(t *testing.T) {
	for _, tt := range []struct {
		members, servers int
		want             time.Duration
	}{{0, 0, 2 * time.Minute}, {100, 3, 2 * time.Minute}, {23040, 3, 2 * time.Minute}, {46080, 3, 4 * time.Minute}, {46080, 6, 2 * time.Minute}} {
		if got := stay(tt.members, tt.servers); got != tt.want {
			t.Errorf("%d members, %d servers: %v, want %v", tt.members, tt.servers, got, tt.want)
		}
	}
}

// The first server keeps its calls whatever comes and goes behind it.
func TestServersStay(t *testing.T) {
	for range 50 {
		v := &lanView{self: "s9"}
		v.refresh(serverMembers(3))
		first := v.Servers()[0]
		v.refresh(serverMembers(8))
		if got := v.Servers(); got[0] != first || len(got) != 8 {
			t.Fatalf("%v, want all 8 with %v first", got, first)
		}
		v.Failed(first)
		if got := v.Servers(); got[0] == first || got[7] != first {
			t.Fatalf("%v after the first failed", got)
		}
	}
}
