package node

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"landbridge/lan/gossip"
)

func TestMovedServersAreListedWhereTheyAre(t *testing.T) {
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	member := func(addr string, status gossip.Status) gossip.Member {
		return gossip.Member{Name: "s1.dc2", Addr: at(addr).Addr(), Port: at(addr).Port(), Status: status}
	}
	for _, tt := range []struct {
		name    string
		members []gossip.Member
		want    string // "" is nobody
		keeps   bool
	}{
		{"the pool has the old address", []gossip.Member{member("10.0.0.1:8302", gossip.Alive)}, "10.0.0.9:8303", true},
		{"failed there", []gossip.Member{member("10.0.0.1:8302", gossip.Failed)}, "10.0.0.9:8303", true},
		{"the pool has the new one", []gossip.Member{member("10.0.0.9:8303", gossip.Alive)}, "10.0.0.9:8303", false},
		{"it left", []gossip.Member{member("10.0.0.1:8302", gossip.Left)}, "10.0.0.1:8302", false},
		{"it is gone", nil, "", false},
	} {
		v := moved{now: map[string]netip.AddrPort{"s1.dc2": at("10.0.0.9:8303")}}
		other := gossip.Member{Name: "s2.dc2", Addr: netip.MustParseAddr("10.0.0.2"), Port: 8302}
		members := append([]gossip.Member{other}, tt.members...)
		v.place(members)
		if members[0].AddrPort() != other.AddrPort() {
			t.Errorf("%s: another server is listed at %s", tt.name, members[0].AddrPort())
		}
		if tt.want != "" && members[1].AddrPort() != at(tt.want) {
			t.Errorf("%s: it is listed at %s, want %s", tt.name, members[1].AddrPort(), tt.want)
		}
		if _, ok := v.where("s1.dc2"); ok != tt.keeps {
			t.Errorf("%s: the address is kept: %v", tt.name, ok)
		}
	}
}

// Everybody who has not heard yet claims the old address: one look in five seconds
// for each server is enough, and whatever is claimed there are not many at once.
func TestClaimsAreLookedIntoInBoundedNumbers(t *testing.T) {
	var v moved
	v.start()
	var looks atomic.Int32
	look := func(name string, now time.Time) { v.look(name, now, func() { looks.Add(1) }) }
	now := time.Now()
	look("s1.dc2", now)
	look("s1.dc2", now.Add(claimPause-1))
	look("s1.dc2", now.Add(claimPause))
	for i := range 2 * claimsMost {
		look(fmt.Sprintf("s%d.dc3", i), now.Add(claimPause))
	}
	if err := v.stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	look("s2.dc2", now.Add(time.Hour))
	if n := looks.Load(); n != 2+claimsMost-1 {
		t.Errorf("%d looks, want %d", n, 2+claimsMost-1)
	}
}
