// Package metrics holds what all packages share about measuring: the registry,
// the /metrics handler, and the bridge by which raft, memberlist and serf, which
// report to go-metrics, end up beside our own series and in the JSON form of
// /v1/agent/metrics.
//
// Collector sends both kinds to a statsd, statsite or DogStatsD server.
//
// Each package declares its own series in its metrics.go on a registerer from
// its Config; nothing registers on a global, so that many nodes can live in one
// test process. Only the bridge is global, because go-metrics is: cmd installs
// it once. Below: stdlog gives libraries that want a *log.Logger one that
// forwards to slog.
package metrics
