package main

// dashboards lists the pages: from the federation down to one server.
func dashboards() []dashboard {
	one := func(expr, legend string) []query { return []query{{expr, legend}} }
	return []dashboard{
		{"federation", "federation", nil, []row{
			{"Datacenters", []panel{
				{"Leaders", "short", "1 in each datacenter; 0 is no leader.", true, one(`sum by (datacenter) (landbridge_consensus_is_leader)`, "{{datacenter}}")},
				{"Servers up", "short", "Servers that Prometheus reaches.", true, one(`sum by (datacenter) (up{job="landbridge"})`, "{{datacenter}}")},
				{"Servers to spare", "short", "How many may fail before a datacenter loses its leader.", true, one(`max by (datacenter) (landbridge_leader_autopilot_failure_tolerance_servers)`, "{{datacenter}}")},
				{"Agents alive", "short", "", false, one(`max by (datacenter, role) (landbridge_lan_agents)`, "{{datacenter}} {{role}}")},
			}},
			{"Between datacenters", []panel{
				{"Round trip", "s", "As gossip estimates it.", false, one(`avg by (datacenter, dc) (landbridge_federation_rtt_seconds)`, "{{datacenter}} to {{dc}}")},
				{"Servers seen failed", "short", "What servers of one datacenter say of another's.", false, one(`max by (datacenter, dc) (landbridge_federation_servers{status="failed"})`, "{{datacenter}} of {{dc}}")},
				{"Requests forwarded", "reqps", "", false, one(`sum by (datacenter, dc, outcome) (rate(landbridge_forwarding_remote_requests_total[5m]))`, "{{datacenter}} to {{dc}}: {{outcome}}")},
				{"WAN connections", "short", "", false, one(`sum by (datacenter) (landbridge_wan_connections)`, "{{datacenter}}")},
				{"Certificates end in", "s", "The server that is first in each datacenter.", false, one(`min by (datacenter) (landbridge_trust_certificate_expiry_timestamp_seconds) - time()`, "{{datacenter}}")},
				{"Datacenters away", "short", "Times that a read with stale-if-error found a datacenter away.", false, one(`sum by (datacenter, reason) (increase(landbridge_view_outages_total[5m]))`, "{{datacenter}}: {{reason}}")},
			}},
			{"Load", []panel{
				{"HTTP requests", "reqps", "", false, one(`sum by (datacenter) (rate(landbridge_httpapi_requests_total[5m]))`, "{{datacenter}}")},
				{"DNS questions", "qps", "", false, one(`sum by (datacenter) (rate(landbridge_dnsapi_questions_total[5m]))`, "{{datacenter}}")},
				{"Commands committed", "wps", "", false, one(`sum by (datacenter) (rate(landbridge_consensus_commands_total[5m]))`, "{{datacenter}}")},
			}},
		}},
		{"datacenter", "datacenter", []string{"datacenter"}, []row{
			{"Raft", []panel{
				{"Leader", "short", "", false, one(`landbridge_consensus_is_leader{datacenter="$datacenter"}`, "{{node}}")},
				{"Leader changes", "short", "", false, one(`increase(landbridge_consensus_leader_changes_total{datacenter="$datacenter"}[5m])`, "{{node}}")},
				{"Entries behind", "short", "Of the longest log in the datacenter, not yet applied.", false, one(`max by (datacenter) (landbridge_consensus_last_index{datacenter="$datacenter"}) - on (datacenter) group_right () landbridge_consensus_applied_index`, "{{node}}")},
				{"Commit, p99", "s", "From a command's arrival at the leader to its effect.", false, one(`histogram_quantile(0.99, sum by (node, le) (rate(landbridge_consensus_commit_seconds_bucket{datacenter="$datacenter"}[5m])))`, "{{node}}")},
				{"fsync, p99", "s", "", false, one(`histogram_quantile(0.99, sum by (node, le) (rate(landbridge_raftlog_sync_seconds_bucket{datacenter="$datacenter"}[5m])))`, "{{node}}")},
				{"Commands waiting", "short", "", false, one(`landbridge_consensus_queued_commands{datacenter="$datacenter"}`, "{{node}}")},
			}},
			{"What it holds", []panel{
				{"Records", "short", "", false, one(`max by (kind) (landbridge_store_records{datacenter="$datacenter"})`, "{{kind}}")},
				{"Blocking queries", "short", "", false, one(`landbridge_endpoint_blocking_queries{datacenter="$datacenter"}`, "{{node}}")},
				{"Sessions expired", "short", "", false, one(`sum (increase(landbridge_leader_sessions_expired_total{datacenter="$datacenter"}[5m]))`, "expired")},
			}},
			{"Refused", []panel{
				{"By rate limits", "reqps", "", false, []query{
					{`sum (rate(landbridge_forwarding_rate_refused_total{datacenter="$datacenter"}[5m]))`, "rpc_rate"},
					{`sum (rate(landbridge_forwarding_limited_requests_total{datacenter="$datacenter"}[5m]))`, "request_limits"}}},
				{"Connections", "cps", "", false, []query{
					{`sum by (node) (rate(landbridge_httpapi_connections_refused_total{datacenter="$datacenter"}[5m]))`, "HTTP {{node}}"},
					{`sum by (node) (rate(landbridge_stream_refused_total{datacenter="$datacenter"}[5m]))`, "LAN {{node}}"}}},
				{"By the log", "short", "A full disk, say.", false, one(`sum by (node, reason) (increase(landbridge_raftlog_refused_total{datacenter="$datacenter"}[5m]))`, "{{node}}: {{reason}}")},
			}},
		}},
		{"server", "server", []string{"datacenter", "node"}, []row{
			{"Front ends", []panel{
				{"HTTP, by family", "reqps", "", false, one(`sum by (family) (rate(landbridge_httpapi_requests_total{datacenter="$datacenter", node="$node"}[5m]))`, "{{family}}")},
				{"DNS, by way", "qps", "", false, one(`sum by (path) (rate(landbridge_dnsapi_questions_total{datacenter="$datacenter", node="$node"}[5m]))`, "{{path}}")},
				{"HTTP connections", "short", "", false, one(`landbridge_httpapi_connections{datacenter="$datacenter", node="$node"}`, "open")},
			}},
			{"Process", []panel{
				{"CPU", "percentunit", "Of one core.", false, one(`rate(process_cpu_seconds_total{datacenter="$datacenter", node="$node"}[5m])`, "CPU")},
				{"Memory", "bytes", "", false, []query{
					{`process_resident_memory_bytes{datacenter="$datacenter", node="$node"}`, "resident"},
					{`go_memstats_heap_inuse_bytes{datacenter="$datacenter", node="$node"}`, "heap"}}},
				{"Goroutines", "short", "", false, one(`go_goroutines{datacenter="$datacenter", node="$node"}`, "goroutines")},
				{"Open files", "short", "", false, []query{
					{`process_open_fds{datacenter="$datacenter", node="$node"}`, "open"},
					{`process_max_fds{datacenter="$datacenter", node="$node"}`, "most"}}},
				{"Room for data", "bytes", "", false, one(`landbridge_agent_data_free_bytes{datacenter="$datacenter", node="$node"}`, "free")},
				{"Clock jumps", "short", "", false, one(`increase(landbridge_agent_clock_jumps_total{datacenter="$datacenter", node="$node"}[5m])`, "jumps")},
			}},
			{"Talk with others", []panel{
				{"Calls taken", "reqps", "", false, one(`sum (rate(landbridge_rpc_server_calls_total{datacenter="$datacenter", node="$node"}[5m]))`, "calls")},
				{"Calls under way", "short", "", false, one(`landbridge_rpc_client_in_flight_calls{datacenter="$datacenter", node="$node"}`, "calls")},
				{"WAN gossip dropped", "pps", "", false, one(`sum (rate(landbridge_wan_gossip_packets_dropped_total{datacenter="$datacenter", node="$node"}[5m]))`, "dropped")},
			}},
		}},
	}
}
