package transport

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	conns       *prometheus.GaugeVec   // protocol, side
	dials       *prometheus.CounterVec // protocol, outcome
	accepts     *prometheus.CounterVec // protocol, outcome
	handshakes  prometheus.Gauge
	refused     *prometheus.CounterVec // reason: before a handshake ended
	garbage     *prometheus.CounterVec // reason
	gossipSent  *prometheus.CounterVec // as
	gossipRecv  *prometheus.CounterVec // as
	gossipDrops *prometheus.CounterVec // reason

	tunnels      *prometheus.GaugeVec   // role
	relayBytes   *prometheus.CounterVec // direction
	relayDrops   *prometheus.CounterVec // reason
	relayRefused *prometheus.CounterVec // reason
}

var (
	protocols      = []string{"gossip", "rpc", "enroll", "relay"}
	dialOutcomes   = []string{"ok", "timeout", "refused", "wrong_peer", "error"}
	acceptOutcomes = []string{"ok", "not_served", "bad_peer", "limit"}
	refuseReasons  = []string{"limit", "protocols", "not_ready"}
	garbageReasons = []string{"not_quic", "malformed", "unknown_connection"}
	packetForms    = []string{"datagram", "stream"}
	dropReasons    = []string{"queue_full", "unreachable", "send_failed", "receive_full", "too_large"}
	tunnelRoles    = []string{roleOrigin, roleRelay, roleTarget}
	relayWays      = []string{"forth", "back"}
	relayDropped   = []string{"queue_full", "receive_full", "rate", "too_large", "send_failed"}
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		conns: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "landbridge_wan_connections",
			Help: "Open QUIC connections by protocol and by who dialed."}, []string{"protocol", "side"}),
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_dials_total",
			Help: "QUIC connections dialed, by protocol and outcome."}, []string{"protocol", "outcome"}),
		accepts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_accepts_total",
			Help: "QUIC connections whose handshake ended here, by protocol and outcome."}, []string{"protocol", "outcome"}),
		handshakes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "landbridge_wan_handshakes_unfinished",
			Help: "Handshakes begun by others that have not ended."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_handshakes_refused_total",
			Help: "Handshakes refused before they ended, by reason."}, []string{"reason"}),
		garbage: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_garbage_packets_total",
			Help: "UDP packets that belong to no connection, by reason."}, []string{"reason"}),
		gossipSent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_gossip_packets_sent_total",
			Help: "Gossip packets sent, as datagrams or as streams when too large."}, []string{"as"}),
		gossipRecv: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_gossip_packets_received_total",
			Help: "Gossip packets received, as datagrams or as streams."}, []string{"as"}),
		gossipDrops: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_gossip_packets_dropped_total",
			Help: "Gossip packets dropped, by reason."}, []string{"reason"}),
		tunnels: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "landbridge_wan_relay_tunnels",
			Help: "Tunnels open: as who asked for them, as the relay that carries them, and as the server they lead to."}, []string{"role"}),
		relayBytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_relay_bytes_total",
			Help: "Bytes of packets carried between two other datacenters, from who asked for the tunnel (forth) and to it (back)."}, []string{"direction"}),
		relayDrops: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_relay_packets_dropped_total",
			Help: "Packets of tunnels dropped, here or on their way through here, by reason."}, []string{"reason"}),
		relayRefused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "landbridge_wan_relay_refused_total",
			Help: "Tunnels refused to who asked this server for one, by reason."}, []string{"reason"}),
	}
	for _, p := range protocols {
		for _, side := range []string{"dialed", "accepted"} {
			m.conns.WithLabelValues(p, side)
		}
		for _, o := range dialOutcomes {
			m.dials.WithLabelValues(p, o)
		}
		for _, o := range acceptOutcomes {
			m.accepts.WithLabelValues(p, o)
		}
	}
	touch(m.refused, refuseReasons)
	touch(m.garbage, garbageReasons)
	touch(m.gossipSent, packetForms)
	touch(m.gossipRecv, packetForms)
	touch(m.gossipDrops, dropReasons)
	for _, r := range tunnelRoles {
		m.tunnels.WithLabelValues(r)
	}
	touch(m.relayBytes, relayWays)
	touch(m.relayDrops, relayDropped)
	touch(m.relayRefused, relayRefusals[1:])
	reg.MustRegister(m.tunnels, m.relayBytes, m.relayDrops, m.relayRefused, m.conns, m.dials, m.accepts, m.handshakes, m.refused, m.garbage, m.gossipSent, m.gossipRecv, m.gossipDrops)
	return m
}

func touch(v *prometheus.CounterVec, values []string) {
	for _, s := range values {
		v.WithLabelValues(s)
	}
}
