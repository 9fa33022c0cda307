package config

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Loader gathers the sources of a configuration and loads it.
type Loader struct {
	Files  []string // -config-file and -config-dir, in the order of the command line
	Format string   // -config-format: "hcl", "json", or "" to go by extensions
	HCL    []string // -hcl
	Dev    bool     // -dev
	// Credentials is the directory with a service manager's secrets, "" for none;
	// systemd names it in CREDENTIALS_DIRECTORY.
	Credentials string

	// Machine is what is asked of this machine; the zero value asks it.
	Machine Machine

	flags tree

	mu           sync.Mutex
	certificates []string // files that the configuration loaded last names; guarded by mu
}

// agentFlag is a flag that sets a key.
type agentFlag struct {
	name, path, usage string
	quote             string // the value's name in help: "ADDR"
}

// agentFlags lists the flags of `agent` that set keys.
func agentFlags() []agentFlag {
	return []agentFlag{
		{"server", "server", "Run as a server, part of the datacenter's Raft group.", ""},
		{"bootstrap", "bootstrap", "Start a new datacenter with this server alone.", ""},
		{"bootstrap-expect", "bootstrap_expect", "Start a new datacenter once `N` servers have found each other.", "N"},
		{"datacenter", "datacenter", "Name of this agent's datacenter.", "NAME"},
		{"node", "node_name", "Name of this node, unique in its datacenter (default: the hostname).", "NAME"},
		{"node-id", "node_id", "Unique ID of this node (default: a random one kept in the data directory).", "UUID"},
		{"node-meta", "node_meta", "Metadata of this node as `key:value`; may be repeated.", "K:V"},
		{"disable-host-node-id", "disable_host_node_id", "Use a random node ID (the default) rather than one made from the machine's; -disable-host-node-id=false for the latter.", ""},
		{"data-dir", "data_dir", "Directory for what must outlive a restart.", "DIR"},
		{"bind", "bind_addr", "Address to bind for talk within the cluster; may be a go-sockaddr template.", "ADDR"},
		{"client", "client_addr", "Addresses to bind for HTTP and DNS, separated by blanks.", "ADDR"},
		{"advertise", "advertise_addr", "Address that other agents are told to call.", "ADDR"},
		{"advertise-wan", "advertise_addr_wan", "Address that other datacenters are told to call.", "ADDR"},
		{"serf-lan-bind", "serf_lan", "Address to bind for gossip within the datacenter.", "ADDR"},
		{"serf-wan-bind", "serf_wan", "Address to bind for talk between datacenters.", "ADDR"},
		{"serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", "Networks that members may come from; may be repeated.", "CIDR"},
		{"serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", "Networks that WAN members may come from; may be repeated.", "CIDR"},
		{"http-port", "ports.http", "Port for the HTTP API; -1 is off.", "PORT"},
		{"https-port", "ports.https", "Port for the HTTPS API; -1 is off.", "PORT"},
		{"dns-port", "ports.dns", "Port for DNS; -1 is off.", "PORT"},
		{"grpc-port", "ports.grpc", "Port for gRPC.", "PORT"},
		{"grpc-tls-port", "ports.grpc_tls", "Port for gRPC over TLS.", "PORT"},
		{"serf-lan-port", "ports.serf_lan", "Port for gossip within the datacenter.", "PORT"},
		{"serf-wan-port", "ports.serf_wan", "UDP port for all talk between datacenters; -1 keeps this server out of it.", "PORT"},
		{"server-port", "ports.server", "Port for RPC and Raft.", "PORT"},
		{"retry-join", "retry_join", "Address of an agent to join, tried until it works; may be repeated.", "ADDR"},
		{"join", "retry_join", "Same as -retry-join.", "ADDR"},
		{"retry-interval", "retry_interval", "Time between attempts to join.", "DURATION"},
		{"retry-max", "retry_max", "Attempts to join before giving up and exiting; 0 is without end.", "N"},
		{"retry-join-wan", "retry_join_wan", "Address of a server of another datacenter to join; may be repeated.", "ADDR"},
		{"join-wan", "retry_join_wan", "Same as -retry-join-wan.", "ADDR"},
		{"retry-interval-wan", "retry_interval_wan", "Time between attempts to join over the WAN.", "DURATION"},
		{"retry-max-wan", "retry_max_wan", "Attempts to join over the WAN before giving up; 0 is without end.", "N"},
		{"rejoin", "rejoin_after_leave", "Join the cluster again after having left it.", ""},
		{"domain", "domain", "Domain of DNS names.", "NAME"},
		{"alt-domain", "alt_domain", "A second domain of DNS names.", "NAME"},
		{"recursor", "recursors", "DNS server for names of other domains; may be repeated.", "ADDR"},
		{"default-query-time", "default_query_time", "How long blocking queries wait that do not say.", "DURATION"},
		{"max-query-time", "max_query_time", "How long blocking queries may wait.", "DURATION"},
		{"enable-script-checks", "enable_script_checks", "Allow checks that run programs.", ""},
		{"enable-local-script-checks", "enable_local_script_checks", "Allow checks that run programs, from files only.", ""},
		{"check_output_max_size", "check_output_max_size", "Bytes of a check's output to keep.", "N"},
		{"encrypt", "encrypt", "Gossip encryption key, as printed by `landbridge keygen`.", "KEY"},
		{"disable-keyring-file", "disable_keyring_file", "Keep the gossip keyring in memory only.", ""},
		{"pid-file", "pid_file", "File to write the process ID to.", "FILE"},
		{"log-level", "log_level", "trace, debug, info, warn or error.", "LEVEL"},
		{"log-json", "log_json", "Log in JSON.", ""},
		{"log-file", "log_file", "File to log to as well as to standard output.", "FILE"},
		{"log-rotate-bytes", "log_rotate_bytes", "Start a new log file at this size.", "N"},
		{"log-rotate-duration", "log_rotate_duration", "Start a new log file at this age.", "DURATION"},
		{"log-rotate-max-files", "log_rotate_max_files", "Old log files to keep; 0 is all, -1 is none.", "N"},
		{"syslog", "enable_syslog", "Log to syslog.", ""},
		{"auto-reload-config", "auto_reload_config", "Reload when configuration files change.", ""},
		{"protocol", "protocol", "Protocol version to speak.", "N"},
		{"raft-protocol", "raft_protocol", "Raft protocol version to speak.", "N"},
		{"allow-write-http-from", "http_config.allow_write_http_from", "Networks that HTTP writes may come from; may be repeated.", "CIDR"},
		{"ui", "ui_config.enabled", "Serve the web interface.", ""},
		{"ui-dir", "ui_config.dir", "Directory of the web interface's files.", "DIR"},
		{"ui-content-path", "ui_config.content_path", "Path that serves the web interface.", "PATH"},
	}
}

// AddFlags declares the agent's flags on fs; parsing them fills the Loader.
func (l *Loader) AddFlags(fs *flag.FlagSet) {
	l.AddFileFlags(fs)
	fs.BoolVar(&l.Dev, "dev", l.Dev, "Run one server in memory on loopback, for trying things out.")
	fs.Func("hcl", "A piece of HCL configuration, merged after the files; may be repeated. `HCL`", func(s string) error {
		l.HCL = append(l.HCL, s)
		return nil
	})
	l.AddKeyFlags(fs)
}

// AddKeyFlags declares the agent's flags of these names that set a key; all of
// them if no name is given.
func (l *Loader) AddKeyFlags(fs *flag.FlagSet, names ...string) {
	for _, f := range agentFlags() {
		if len(names) > 0 && !slices.Contains(names, f.name) {
			continue
		}
		n := keys().find(f.path)
		usage := f.usage
		switch n.fate {
		case later:
			usage += " Not built yet: accepted, and named in a warning."
		case protects:
			usage += " Not built yet: refused."
		}
		if f.quote != "" && !strings.Contains(usage, "`"+f.quote+"`") {
			usage = strings.ReplaceAll(usage, "`", "'") + " `" + f.quote + "`"
		}
		fs.Var(&keyFlag{l, f, n}, f.name, usage)
	}
}

// AddFileFlags declares only the flags that name sources, for `validate`.
func (l *Loader) AddFileFlags(fs *flag.FlagSet) {
	add := func(s string) error {
		l.Files = append(l.Files, s)
		return nil
	}
	fs.Func("config-file", "Configuration file, .hcl or .json; may be repeated, later ones win. `FILE`", add)
	fs.Func("config-dir", "Directory whose .hcl and .json files are read in order of their names; may be repeated. `DIR`", add)
	l.AddFormatFlag(fs)
}

// AddFormatFlag declares -config-format alone.
func (l *Loader) AddFormatFlag(fs *flag.FlagSet) {
	fs.Func("config-format", "Format of all files, hcl or json, whatever their names. `FORMAT`", func(s string) error {
		if s != "hcl" && s != "json" {
			return fmt.Errorf("-config-format must be hcl or json")
		}
		l.Format = s
		return nil
	})
}

// find returns the node at a path that is known to exist.
func (n *node) find(path string) *node {
	for name := range strings.SplitSeq(path, ".") {
		if n = n.children[name]; n == nil {
			panic("config: no key " + path)
		}
	}
	return n
}

// keyFlag is the flag.Value of a flag that sets a key.
type keyFlag struct {
	loader *Loader
	flag   agentFlag
	node   *node
}

func (f *keyFlag) String() string {
	if f.node == nil { // the zero value, which package flag asks for
		return ""
	}
	return f.node.def
}

func (f *keyFlag) IsBoolFlag() bool { return f.node != nil && f.node.kind == kBool }

// Repeats says whether giving the flag again adds to it, for completion.
func (f *keyFlag) Repeats() bool {
	return f.node.kind == kList || f.node.kind == kMap || f.node.kind == kAny
}

func (f *keyFlag) Set(s string) error {
	var raw any = s
	switch f.node.kind {
	case kMap:
		k, v, ok := strings.Cut(s, ":")
		if !ok || k == "" {
			return fmt.Errorf("must be key:value")
		}
		raw = map[string]any{k: v}
	case kAny:
		raw = []any{s}
	}
	r := reader{}
	v, ok := r.value(f.node, raw, f.node.path)
	if !ok {
		return r.errs[0]
	}
	// Wrap the value in the objects above it.
	path := strings.Split(f.node.path, ".")
	for i := len(path) - 1; i >= 0; i-- {
		v = tree{path[i]: v}
	}
	if f.loader.flags == nil {
		f.loader.flags = tree{}
	}
	merge(f.loader.flags, v.(tree))
	return nil
}
