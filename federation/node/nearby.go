package node

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"landbridge/lan/gossip"
	wangossip "landbridge/wan/gossip"
)

// nearbyEvery bounds how old the LAN's members are that nearby goes by: gossip
// asks for each packet, and a datacenter may have thousands of them.
const nearbyEvery = time.Second

// nearby returns where the WAN pool reaches the servers of our own datacenter: by
// the LAN. What they advertise is for others, and a NAT may not let it back in.
func (s *server) nearby() func(peer string) (netip.AddrPort, bool) {
	var (
		mu    sync.Mutex
		at    time.Time
		addrs map[string]netip.AddrPort
	)
	return func(peer string) (netip.AddrPort, bool) {
		if _, dc, ok := wangossip.SplitName(peer); !ok || dc != s.n.cfg.Datacenter {
			return s.wan.moved.where(peer)
		}
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); addrs == nil || now.Sub(at) >= nearbyEvery {
			at, addrs = now, map[string]netip.AddrPort{}
			for _, m := range s.n.lan.Members() {
				port, err := strconv.ParseUint(m.Tags["wan_join_port"], 10, 16)
				if err == nil && m.Status != gossip.Left {
					addrs[wangossip.Name(m.Name, s.n.cfg.Datacenter)] = netip.AddrPortFrom(m.Addr, uint16(port))
				}
			}
		}
		to, ok := addrs[peer]
		return to, ok
	}
}
