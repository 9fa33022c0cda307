package transport

import (
	"net/netip"
	"time"
)

// PathStats is what one connection knows about its path.
type PathStats struct {
	Peer     string // "" while enrolling
	Protocol string // gossip, rpc, enroll, relay
	Remote   netip.AddrPort
	Dialed   bool
	Via      string // the relay it runs through, "" if it has a path of its own
	Since    time.Time

	RTT, MinRTT, Deviation       time.Duration
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64
}

// Paths returns the statistics of all open connections.
func (e *Endpoint) Paths() []PathStats {
	conns := e.snapshot()
	list := make([]PathStats, len(conns))
	for i, c := range conns {
		s := c.quic.ConnectionStats()
		list[i] = PathStats{
			Peer: c.peer, Protocol: c.protocol, Remote: c.remote(), Dialed: c.dialed, Via: c.via(), Since: c.since,
			RTT: s.SmoothedRTT, MinRTT: s.MinRTT, Deviation: s.MeanDeviation,
			BytesSent: s.BytesSent, BytesReceived: s.BytesReceived,
			PacketsSent: s.PacketsSent, PacketsReceived: s.PacketsReceived, PacketsLost: s.PacketsLost,
		}
	}
	return list
}

// RTT returns the smoothed round trip time to a peer, measured on its newest
// open connection that is for calls or gossip, and not for bulk; false if there is none.
func (e *Endpoint) RTT(peer string) (time.Duration, bool) {
	var newest *connection
	e.mu.Lock()
	for c := range e.conns {
		if c.peer == peer && !c.bulk.Load() && c.protocol != "relay" && (newest == nil || c.since.After(newest.since)) {
			newest = c
		}
	}
	e.mu.Unlock()
	if newest == nil {
		return 0, false
	}
	rtt := newest.quic.ConnectionStats().SmoothedRTT
	return rtt, rtt > 0
}
