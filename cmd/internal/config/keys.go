package config

// fate is what becomes of a key that users may write.
type fate uint8

const (
	takesEffect fate = iota // a field of Config
	noEffect                // accepted; the interface says it changes nothing
	later                   // accepted; landbridge does not have it yet: named in a warning
	protects                // as later, but ignoring it would leave something unprotected: refused
	enterprise              // accepted with the words tools know
	refused                 // an error with note as its text
	renamed                 // an old spelling of the key in note: moved there, with a warning
	alias                   // another spelling of the key in note: moved there silently
)

// keyEntry says the same of several keys. For later and protects, def is the
// default's text: a value equal to it is as good as none.
type keyEntry struct {
	fate  fate
	kind  kind
	def   string
	note  string
	paths string // separated by blanks
}

// otherKeys lists the keys of the interface that are no fields of Config.
func otherKeys() []keyEntry {
	return append(currentKeys(), oldKeys()...)
}

func currentKeys() []keyEntry {
	return []keyEntry{
		// In CamelCase, too: the files that people register services from are written
		// like the API's bodies, from the outermost key on.
		{fate: alias, kind: kAny, note: "services", paths: "service Service Services"},
		{fate: alias, kind: kAny, note: "checks", paths: "check Check Checks"},
		{fate: alias, kind: kAny, note: "checks", paths: "services.check"},
		{fate: alias, kind: kAny, note: "args", paths: "checks.script_args services.checks.script_args"},
		{fate: alias, kind: kAny, note: "tag", paths: "watches.tags"},
		// Inside a service the API calls a check's id CheckID.
		{fate: alias, kind: kAny, note: "id", paths: "checks.check_id services.checks.check_id"},

		{fate: noEffect, paths: "disable_update_check disable_anonymous_signature version revision version_metadata version_prerelease build_date " +
			"experiments cloud.resource_id cloud.client_id cloud.client_secret cloud.hostname cloud.auth_url cloud.scada_address reap " +
			"peering.enabled telemetry.disable_per_tenancy_usage_metrics telemetry.prometheus_retention_time " +
			"telemetry.circonus_api_app telemetry.circonus_api_token telemetry.circonus_api_url telemetry.circonus_broker_id " +
			"telemetry.circonus_broker_select_tag telemetry.circonus_check_display_name telemetry.circonus_check_force_metric_activation " +
			"telemetry.circonus_check_id telemetry.circonus_check_instance_id telemetry.circonus_check_search_tag telemetry.circonus_check_tags " +
			"telemetry.circonus_submission_interval telemetry.circonus_submission_url " +
			"raft_logstore.backend raft_logstore.disable_log_cache raft_logstore.verification.enabled raft_logstore.verification.interval " +
			"raft_logstore.boltdb.no_freelist_sync raft_logstore.wal.segment_size_mb " +
			"rpc.enable_streaming xds.update_max_per_second dns_config.prefer_namespace"},

		{fate: later, kind: kBool, def: "true", paths: "enable_central_service_config"},
		{fate: later, kind: kBool, def: "false", paths: "" +
			"tls.grpc.use_auto_cert auto_encrypt.allow_tls " +
			"connect.enable_mesh_gateway_wan_federation connect.enable_serverless_plugin connect.test_ca_leaf_root_change_spread " +
			"ui_config.enabled"},
		{fate: later, kind: kString, paths: "ui_config.dir ui_config.metrics_provider ui_config.metrics_provider_options_json " +
			"ui_config.metrics_proxy.base_url "},
		{fate: later, kind: kString, def: "/ui/", paths: "ui_config.content_path"},
		{fate: later, kind: kString, def: "consul", paths: "connect.ca_provider"},
		{fate: later, kind: kAny, paths: "ui_config.metrics_provider_files ui_config.metrics_proxy.path_allowlist ui_config.metrics_proxy.add_headers " +
			"ui_config.dashboard_url_templates " +
			"auto_encrypt.dns_san auto_encrypt.ip_san auto_config.intro_token auto_config.intro_token_file auto_config.server_addresses " +
			"auto_config.dns_sans auto_config.ip_sans auto_config.authorization " +
			"locality addresses.grpc addresses.grpc_tls"},
		{fate: later, kind: kInt, def: "-1", paths: "ports.grpc ports.grpc_tls"},
		{fate: later, kind: kInt, def: "21500", paths: "ports.expose_min_port"},
		{fate: later, kind: kInt, def: "21755", paths: "ports.expose_max_port"},
		{fate: later, kind: kDuration, def: "30s", paths: "performance.grpc_keepalive_interval"},
		{fate: later, kind: kDuration, def: "20s", paths: "performance.grpc_keepalive_timeout"},
		{fate: later, kind: kAny, paths: "tls.grpc.ca_file tls.grpc.ca_path tls.grpc.cert_file tls.grpc.key_file " +
			"tls.grpc.tls_min_version tls.grpc.tls_cipher_suites " +
			"connect.ca_config.private_key connect.ca_config.root_cert connect.ca_config.leaf_cert_ttl " +
			"connect.ca_config.intermediate_cert_ttl connect.ca_config.root_cert_ttl connect.ca_config.private_key_type " +
			"connect.ca_config.private_key_bits connect.ca_config.csr_max_per_second connect.ca_config.csr_max_concurrent"},

		// auto_encrypt.tls and auto_config.enabled bring an agent its certificates and
		// keys: without them it would talk in the clear.
		{fate: protects, kind: kBool, def: "false", paths: "tls.grpc.verify_incoming tls.grpc.verify_outgoing " +
			"auto_encrypt.tls auto_config.enabled"},

		{fate: refused, kind: kAny, note: "config entries are not built yet: an intention among them would protect nothing", paths: "config_entries.bootstrap"},
		{fate: refused, kind: kAny, note: "Network segments are not supported in this version of Consul", paths: "segment segments"},

		{fate: enterprise, paths: "partition license_path reporting.license.enabled read_replica audit.enabled audit.sink audit.rpc_enabled " +
			"autopilot.redundancy_zone_tag autopilot.upgrade_version_tag autopilot.disable_upgrade_migration"},
	}
}

// oldKeys are the spellings that current ones replaced.
func oldKeys() []keyEntry {
	to := func(now string, old string) keyEntry {
		return keyEntry{fate: renamed, kind: kAny, note: now, paths: old}
	}
	return []keyEntry{
		to("retry_join", "start_join"),
		to("retry_join_wan", "start_join_wan"),
		to("primary_datacenter", "acl_datacenter"),
		to("acl.default_policy", "acl_default_policy"),
		to("acl.down_policy", "acl_down_policy"),
		to("acl.token_ttl", "acl_ttl"),
		to("acl.tokens.default", "acl_token"),
		to("acl.tokens.agent", "acl_agent_token"),
		to("acl.tokens.agent_recovery", "acl_agent_master_token acl.tokens.agent_master"),
		to("acl.tokens.initial_management", "acl_master_token acl.tokens.master"),
		to("acl.tokens.replication", "acl_replication_token"),
		to("acl.enable_token_replication", "enable_acl_replication"),
		to("acl.enable_key_list_policy", "acl_enable_key_list_policy acl.enable_key_list"),
		to("ui_config.enabled", "ui"),
		to("ui_config.dir", "ui_dir"),
		to("ui_config.content_path", "ui_content_path"),
		to("tls.defaults.ca_file", "ca_file"),
		to("tls.defaults.ca_path", "ca_path"),
		to("tls.defaults.cert_file", "cert_file"),
		to("tls.defaults.key_file", "key_file"),
		to("tls.defaults.tls_min_version", "tls_min_version"),
		to("tls.defaults.tls_cipher_suites", "tls_cipher_suites"),
		to("tls.defaults.verify_incoming", "verify_incoming"),
		to("tls.internal_rpc.verify_incoming", "verify_incoming_rpc"),
		to("tls.https.verify_incoming", "verify_incoming_https"),
		to("tls.defaults.verify_outgoing", "verify_outgoing"),
		to("tls.internal_rpc.verify_server_hostname", "verify_server_hostname"),
		to("server_name", "tls.server_name"),
		to("raft_logstore.boltdb", "raft_boltdb"),
		to("read_replica", "non_voting_server"),
		to("ports.grpc", "ports.xds"),
		to("http_config.response_headers", "http_api_response_headers"),
		{fate: noEffect, paths: "tls_prefer_server_cipher_suites acl.tokens.managed_service_provider"},
		{fate: refused, kind: kAny, note: "was removed: use retry_join with the addresses of servers", paths: "retry_join_ec2 retry_join_gce retry_join_azure"},
	}
}
