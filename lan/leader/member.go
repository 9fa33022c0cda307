package leader

import (
	"maps"
	"net/netip"
	"strconv"
	"time"
)

// Status of a member, numbered as in gossip.
type Status uint8

// What gossip says of a member.
const (
	Alive   Status = 1
	Leaving Status = 2
	Left    Status = 3
	Failed  Status = 4
)

// Member is an agent of this datacenter as gossip knows it.
type Member struct {
	Name   string
	ID     string
	Addr   netip.Addr
	Status Status
	Server bool
	// Port is the server's Raft and RPC port.
	Port uint16
	// Expect is the server's bootstrap_expect, 0 without; Bootstrap says that it
	// bootstraps alone.
	Expect    int
	Bootstrap bool
	Tags      map[string]string
	// Protocol versions of gossip, shown in the service "consul".
	ProtocolMin, ProtocolMax, ProtocolCur uint8
}

// NewMember reads what a member's tags say (spec gossip-federation.md 3).
func NewMember(name string, addr netip.Addr, status Status, tags map[string]string) Member {
	m := Member{Name: name, ID: tags["id"], Addr: addr.Unmap(), Status: status, Tags: tags, Server: tags["role"] == "consul"}
	if port, err := strconv.ParseUint(tags["port"], 10, 16); err == nil {
		m.Port = uint16(port)
	}
	if n, err := strconv.Atoi(tags["expect"]); err == nil && n > 0 {
		m.Expect = n
	}
	m.Bootstrap = tags["bootstrap"] == "1"
	return m
}

// RaftAddress is where the server's Raft and RPC answer.
func (m *Member) RaftAddress() string { return netip.AddrPortFrom(m.Addr, m.Port).String() }

func (m *Member) sameAs(o *Member) bool {
	return m.Name == o.Name && m.ID == o.ID && m.Addr == o.Addr && m.Status == o.Status && m.Server == o.Server &&
		m.Port == o.Port && m.ProtocolCur == o.ProtocolCur && maps.Equal(m.Tags, o.Tags)
}

// backoff waits between tries: it doubles from first to last, with jitter.
type backoff struct {
	first, last time.Duration
	n           int
}

func (b *backoff) next() time.Duration {
	d := b.last
	if b.n < 16 && b.first<<b.n < b.last {
		d = b.first << b.n
	}
	b.n++
	return d/2 + randUpTo(d/2)
}

func (b *backoff) reset() { b.n = 0 }
