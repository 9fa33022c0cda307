package stream

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	conns    prometheus.Gauge
	accepted map[string]prometheus.Counter
	refused  map[string]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	accepted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_stream_accepted_total",
		Help: "Connections accepted on the server port, by protocol (raft, rpc).",
	}, []string{"protocol"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "landbridge_stream_refused_total",
		Help: "Connections dropped by the server port, by reason: silent, garbage, plain (TLS is demanded), tls, not_server, cluster, history, server (Raft of another cluster, of its past, or for another server), per_client, handshakes, raft_backlog.",
	}, []string{"reason"})
	m := &metrics{
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "landbridge_stream_connections",
			Help: "Connections open on the server port.",
		}),
		accepted: map[string]prometheus.Counter{},
		refused:  map[string]prometheus.Counter{},
	}
	for _, v := range []string{"raft", "rpc"} {
		m.accepted[v] = accepted.WithLabelValues(v)
	}
	for _, v := range []string{"silent", "garbage", "plain", "tls", "not_server", "cluster", "history", "server", "per_client", "handshakes", "raft_backlog"} {
		m.refused[v] = refused.WithLabelValues(v)
	}
	if reg != nil {
		reg.MustRegister(accepted, refused, m.conns)
	}
	return m
}
