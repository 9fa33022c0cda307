package gossip

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/hashicorp/serf/serf"
)

// Status of a member, numbered as in /v1/agent/members.
type Status uint8

const (
	None    Status = 0
	Alive   Status = 1
	Leaving Status = 2
	Left    Status = 3
	Failed  Status = 4
)

func (s Status) String() string {
	switch s {
	case None:
		return "none"
	case Alive:
		return "alive"
	case Leaving:
		return "leaving"
	case Left:
		return "left"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("status-%d", uint8(s))
}

// Member of a pool. Tags must not be changed.
type Member struct {
	Name                                  string
	Addr                                  netip.Addr
	Port                                  uint16
	Tags                                  map[string]string
	Status                                Status
	ProtocolMin, ProtocolMax, ProtocolCur uint8
	DelegateMin, DelegateMax, DelegateCur uint8
}

// AddrPort is where the member gossips.
func (m Member) AddrPort() netip.AddrPort { return netip.AddrPortFrom(m.Addr, m.Port) }

// memberOf shares the tags with serf, which replaces the map when they change
// and never writes into it.
func memberOf(m serf.Member) Member {
	return Member{
		Name: m.Name, Addr: addrOf(m.Addr), Port: m.Port,
		Tags: m.Tags, Status: Status(m.Status),
		ProtocolMin: m.ProtocolMin, ProtocolMax: m.ProtocolMax, ProtocolCur: m.ProtocolCur,
		DelegateMin: m.DelegateMin, DelegateMax: m.DelegateMax, DelegateCur: m.DelegateCur,
	}
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// EventKind says what happened to the members of an Event.
type EventKind uint8

const (
	Joined  EventKind = iota // alive, for the first time or again
	Updated                  // tags or address changed
	Gone                     // left on purpose
	Lost                     // failed
	Reaped                   // forgotten: no longer in Members
	Resync                   // events were missed: read Members
)

func (k EventKind) String() string {
	names := [...]string{"joined", "updated", "left", "failed", "reaped", "resync"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("event-%d", uint8(k))
}

// Event is a change of members. Resync has none.
type Event struct {
	Kind    EventKind
	Members []Member
}
