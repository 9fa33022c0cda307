package metrics

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The names that existing dashboards, alerts and tools look for (spec http-agent
// 4). What raft, memberlist and serf report has them already (Bridge); the rest is
// read off our own series when somebody asks, and costs nothing else.

// kind is how a known name is shown.
type kind uint8

const (
	gauge   kind = iota
	leaders      // a gauge that only the leader knows: NaN on all others
	counter      // of our counters, or of how often our histograms were observed
	sample       // in milliseconds, of our summaries and histograms in seconds
)

// known is a name and the series it is read off: "family" or
// "family{label=value}". Several add up. Labels are shown by the names in as. A
// name without a series is there, and 0, until somebody reports to it.
type known struct {
	kind kind
	name string // without the prefix
	from string // separated by blanks
	as   map[string]string
}

// until marks gauges of ours that are a time, and shown as what is left until then.
var until = map[string]bool{"landbridge_trust_certificate_expiry_timestamp_seconds": true}

// endpointSeconds is what api.http is read off, whole.
const endpointSeconds = "landbridge_httpapi_endpoint_seconds"

func knownNames() []known {
	const (
		writes  = "landbridge_endpoint_write_seconds"
		records = "landbridge_store_records"
		blocked = "landbridge_agent_blocked_registrations_total"
	)
	list := []known{
		{leaders, "autopilot.healthy", "landbridge_leader_autopilot_healthy_state", nil},
		{leaders, "autopilot.failure_tolerance", "landbridge_leader_autopilot_failure_tolerance_servers", nil},
		{gauge, "members.servers", "landbridge_lan_agents{role=server}", map[string]string{"dc": "datacenter"}},
		{gauge, "members.clients", "landbridge_lan_agents{role=client}", map[string]string{"dc": "datacenter"}},
		{gauge, "server.isLeader", "landbridge_consensus_is_leader", nil},
		{gauge, "raft.applied_index", "landbridge_consensus_applied_index", nil},
		{gauge, "raft.last_index", "landbridge_consensus_last_index", nil},
		{gauge, "raft.fsm.lastRestoreDuration", "", nil},
		{gauge, "raft.leader.oldestLogAge", "", nil},
		{counter, "raft.apply", "", nil},
		{counter, "raft.state.candidate", "", nil},
		{counter, "raft.state.leader", "", nil},
		{sample, "raft.commitTime", "", nil},
		{sample, "raft.leader.lastContact", "", nil},
		{sample, "raft.leader.dispatchLog", "", nil},
		{sample, "raft.thread.main.saturation", "", nil},
		{sample, "raft.thread.fsm.saturation", "", nil},

		{sample, "kvs.apply", writes + "{method=KV.Apply}", nil},
		{sample, "txn.apply", writes + "{method=Txn.Apply}", nil},
		{sample, "txn.read", writes + "{method=Txn.Read}", nil},
		{sample, "catalog.register", writes + "{method=Catalog.Register} " + writes + "{method=Catalog.Sync}", nil},
		{sample, "catalog.deregister", writes + "{method=Catalog.Deregister}", nil},
		{sample, "session.apply", writes + "{method=Session.Create} " + writes + "{method=Session.Destroy}", nil},
		{sample, "session.renew", writes + "{method=Session.Renew}", nil},
		{sample, "prepared-query.execute", writes + "{method=PreparedQuery.Execute}", nil},
		{gauge, "session_ttl.active", "landbridge_leader_session_timers", nil},
		{sample, "session_ttl.invalidate", "landbridge_leader_sessions_expired_total", nil},

		{counter, "client.rpc", "landbridge_forwarding_requests_total{where=server}", nil},
		{counter, "client.rpc.failed", "landbridge_forwarding_requests_total{where=server,outcome=error}", nil},
		{counter, "client.rpc.exceeded", "landbridge_forwarding_rate_refused_total", nil},
		{counter, "rpc.query", "landbridge_endpoint_requests_total", nil},
		{counter, "rpc.request", "landbridge_rpc_server_calls_total", nil},
		{counter, "rpc.request_error", "landbridge_rpc_server_calls_total{outcome=error}", nil},
		{counter, "rpc.cross-dc", "landbridge_forwarding_remote_seconds", nil},
		{counter, "rpc.rate_limit.exceeded", "landbridge_forwarding_limited_requests_total", nil},
		{gauge, "rpc.queries_blocking", "landbridge_endpoint_blocking_queries", nil},
		{sample, "api.http", endpointSeconds, map[string]string{"method": "method", "path": "path"}},
		{gauge, "cache.entries_count", "landbridge_view_views", nil},

		{sample, "acl.ResolveToken", "landbridge_identity_ask_seconds", nil},
		{counter, "acl.token.cache_hit", "landbridge_identity_lookups_total{outcome=kept}", nil},
		{counter, "acl.token.cache_miss", "landbridge_identity_lookups_total{outcome=asked}", nil},
		{counter, "acl.blocked.service.registration", blocked + "{kind=service}", nil},
		{counter, "acl.blocked.check.registration", blocked + "{kind=check}", nil},
		{counter, "acl.blocked.node.registration", blocked + "{kind=node}", nil},
		{gauge, "leader.replication.acl-policies.status", "landbridge_acl_replication_connected_state", nil},
		{gauge, "leader.replication.acl-roles.status", "landbridge_acl_replication_connected_state", nil},
		{gauge, "leader.replication.acl-tokens.status", "landbridge_acl_replication_connected_state", nil},
		{gauge, "leader.replication.acl-policies.index", "landbridge_acl_replication_source_index{kind=policies}", nil},
		{gauge, "leader.replication.acl-roles.index", "landbridge_acl_replication_source_index{kind=roles}", nil},
		{gauge, "leader.replication.acl-tokens.index", "landbridge_acl_replication_source_index{kind=tokens}", nil},

		{sample, "serf.queue.Event", "", nil},
		{sample, "serf.queue.Intent", "", nil},
		{sample, "serf.queue.Query", "", nil},
		{sample, "memberlist.gossip", "", nil},
		{sample, "leader.reconcile", "landbridge_leader_reconcile_duration_seconds", nil},

		{gauge, "state.nodes", records + "{kind=nodes}", nil},
		{gauge, "state.services", records + "{kind=services}", nil},
		{gauge, "state.service_instances", records + "{kind=service_instances}", nil},
		{gauge, "state.kv_entries", records + "{kind=kv}", nil},
		{gauge, "state.connect_instances", records + "{kind=connect_instances}", nil},
		{gauge, "state.config_entries", records + "{kind=config_entries}", nil},
		{gauge, "agent.tls.cert.expiry", "landbridge_trust_certificate_expiry_timestamp_seconds{certificate=server}", nil},
		{gauge, "version", "landbridge_build_info", map[string]string{"compatible": "version", "prerelease": "pre_release"}},
	}
	for name, path := range map[string]string{
		"catalog_register": "v1_catalog_register", "catalog_deregister": "v1_catalog_deregister",
		"catalog_datacenters": "v1_catalog_datacenters", "catalog_nodes": "v1_catalog_nodes",
		"catalog_services": "v1_catalog_services", "catalog_service_nodes": "v1_catalog_service__",
		"catalog_node_services": "v1_catalog_node__", "catalog_node_service_list": "v1_catalog_node-services__",
	} {
		list = append(list, known{counter, "client.api." + name, endpointSeconds + "{path=" + path + "}", nil})
	}
	slices.SortFunc(list, func(x, y known) int { return strings.Compare(x.name, y.name) })
	return list
}

// Sources lists the families of ours that the known names are read off: their
// names must not change without the table here.
func Sources() []string {
	seen := make(map[string]bool)
	for _, k := range knownNames() {
		for _, s := range parseSelectors(k.from) {
			seen[s.family] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// value is what a known name has to say now, for one set of labels.
type value struct {
	kind      kind
	name      string
	labels    map[string]string
	v         float64 // of a gauge, or a counter
	count     uint64  // of a sample
	sum       float64 // ms
	quantiles map[float64]float64
}

func (v *value) key() string {
	names := make([]string, 0, len(v.labels))
	for n := range v.labels {
		names = append(names, n)
	}
	slices.Sort(names)
	k := v.name
	for _, n := range names {
		k += ";" + n + "=" + v.labels[n]
	}
	return k
}

// selector is one series, or several, of a family.
type selector struct {
	family string
	match  map[string]string
}

func parseSelectors(from string) []selector {
	var out []selector
	for f := range strings.FieldsSeq(from) {
		s := selector{family: f}
		if name, rest, ok := strings.Cut(f, "{"); ok {
			s.family, s.match = name, make(map[string]string)
			for pair := range strings.SplitSeq(strings.TrimSuffix(rest, "}"), ",") {
				k, v, _ := strings.Cut(pair, "=")
				s.match[k] = v
			}
		}
		out = append(out, s)
	}
	return out
}

func (s *selector) selects(m *dto.Metric) bool {
	for k, v := range s.match {
		if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == k && l.GetValue() == v }) {
			return false
		}
	}
	return true
}

// knownValues reads all known names off families. Of a family that this process
// does not have (a client agent's state) it shows nothing.
func knownValues(names []known, families map[string]*dto.MetricFamily) []value {
	var out []value
	leads := false
	if f := families["landbridge_consensus_is_leader"]; f != nil && len(f.Metric) > 0 {
		leads = f.Metric[0].GetGauge().GetValue() == 1
	}
	for _, k := range names {
		if k.from == "" {
			out = append(out, value{kind: k.kind, name: k.name})
			continue
		}
		byLabels := make(map[string]*value)
		var order []string
		for _, sel := range parseSelectors(k.from) {
			f := families[sel.family]
			if f == nil {
				continue
			}
			if len(byLabels) == 0 && len(k.as) == 0 {
				v := value{kind: k.kind, name: k.name}
				byLabels[v.key()], order = &v, append(order, v.key())
			}
			for _, m := range f.Metric {
				if !sel.selects(m) {
					continue
				}
				v := value{kind: k.kind, name: k.name, labels: shownLabels(m, k.as)}
				key := v.key()
				have := byLabels[key]
				if have == nil {
					have = &v
					byLabels[key], order = have, append(order, key)
				}
				have.add(m)
				if until[sel.family] && have.v > 0 {
					have.v -= float64(time.Now().Unix())
				}
			}
		}
		for _, key := range order {
			v := *byLabels[key]
			if v.kind == leaders {
				if v.kind = gauge; !leads {
					v.v = nan
				}
			}
			out = append(out, v)
		}
	}
	return out
}

func shownLabels(m *dto.Metric, as map[string]string) map[string]string {
	if len(as) == 0 {
		return nil
	}
	labels := make(map[string]string, len(as))
	for _, name := range as {
		labels[name] = ""
	}
	for _, l := range m.Label {
		if name, ok := as[l.GetName()]; ok {
			labels[name] = l.GetValue()
		}
	}
	return labels
}

// add adds a series of ours. The quantiles are those of the last one that has any.
func (v *value) add(m *dto.Metric) {
	var count uint64
	var sum float64
	switch {
	case m.Gauge != nil:
		v.v += m.Gauge.GetValue()
		return
	case m.Counter != nil:
		count = uint64(m.Counter.GetValue())
	case m.Histogram != nil:
		count, sum = m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum()
	case m.Summary != nil:
		count, sum = m.Summary.GetSampleCount(), m.Summary.GetSampleSum()
		if count > 0 {
			v.quantiles = make(map[float64]float64)
			for _, q := range m.Summary.Quantile {
				v.quantiles[q.GetQuantile()] = 1000 * q.GetValue()
			}
		}
	}
	v.v += float64(count)
	v.count += count
	v.sum += 1000 * sum
}

var forbidden = strings.NewReplacer(" ", "_", ".", "_", "=", "_", "-", "_", "/", "_")

// family is v's name in Prometheus.
func familyName(prefix, name string) string { return forbidden.Replace(prefix + "_" + name) }

// shownFamilies are values as Prometheus takes them.
func shownFamilies(prefix string, values []value) []*dto.MetricFamily {
	var out []*dto.MetricFamily
	for i := range values {
		v := &values[i]
		name := familyName(prefix, v.name)
		if len(out) == 0 || out[len(out)-1].GetName() != name {
			f := &dto.MetricFamily{Name: &name}
			help := "The name that existing dashboards know: " + v.name + "."
			f.Help = &help
			f.Type = [...]*dto.MetricType{gauge: dto.MetricType_GAUGE.Enum(), counter: dto.MetricType_COUNTER.Enum(), sample: dto.MetricType_SUMMARY.Enum()}[v.kind]
			out = append(out, f)
		}
		f := out[len(out)-1]
		f.Metric = append(f.Metric, v.metric())
	}
	return out
}

func (v *value) metric() *dto.Metric {
	m := &dto.Metric{}
	switch v.kind {
	case gauge:
		m.Gauge = &dto.Gauge{Value: &v.v}
	case counter:
		m.Counter = &dto.Counter{Value: &v.v}
	default:
		m.Summary = &dto.Summary{SampleCount: &v.count, SampleSum: &v.sum}
		for _, q := range []float64{0.5, 0.9, 0.99} {
			x, ok := v.quantiles[q]
			if !ok {
				x = nan
			}
			m.Summary.Quantile = append(m.Summary.Quantile, &dto.Quantile{Quantile: &q, Value: &x})
		}
	}
	for name, text := range v.labels {
		m.Label = append(m.Label, &dto.LabelPair{Name: &name, Value: &text})
	}
	slices.SortFunc(m.Label, func(x, y *dto.LabelPair) int { return strings.Compare(x.GetName(), y.GetName()) })
	return m
}

var _ prometheus.Gatherer = (*Bridge)(nil)
