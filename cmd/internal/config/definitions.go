package config

import "time"

// Service is a service definition in a file: the body of a registration under
// snake_case keys. Keys are also found in CamelCase and in any letter case,
// since definitions are often copied from API requests.
type Service struct {
	ID                string                    `key:"id"`
	Name              string                    `key:"name"`
	Tags              []string                  `key:"tags"`
	Meta              map[string]string         `key:"meta"`
	Port              int                       `key:"port"`
	Address           string                    `key:"address"`
	SocketPath        string                    `key:"socket_path"`
	TaggedAddresses   map[string]ServiceAddress `key:"tagged_addresses"`
	EnableTagOverride bool                      `key:"enable_tag_override"`
	Weights           *Weights                  `key:"weights"`
	Token             string                    `key:"token"`
	Kind              string                    `key:"kind"`
	Checks            []Check                   `key:"checks"`
	// Blocks of the service mesh: passed on as they are.
	Proxy    any `key:"proxy"`
	Connect  any `key:"connect"`
	Locality any `key:"locality"`
}

// ServiceAddress is one entry of tagged_addresses.
type ServiceAddress struct {
	Address string `key:"address"`
	Port    int    `key:"port"`
}

// Weights are a service's DNS weights.
type Weights struct {
	Passing int `key:"passing"`
	Warning int `key:"warning"`
}

// Check is a check definition, alone or within a service. Which combinations
// make sense is the agent's to say, since the API sends it the same ones.
type Check struct {
	ID                     string              `key:"id"`
	Name                   string              `key:"name"`
	Notes                  string              `key:"notes"`
	ServiceID              string              `key:"service_id"`
	Token                  string              `key:"token"`
	Status                 string              `key:"status"`
	Args                   []string            `key:"args"`
	DockerContainerID      string              `key:"docker_container_id"`
	Shell                  string              `key:"shell"`
	HTTP                   string              `key:"http"`
	Method                 string              `key:"method"`
	Header                 map[string][]string `key:"header"`
	Body                   string              `key:"body"`
	DisableRedirects       bool                `key:"disable_redirects"`
	TCP                    string              `key:"tcp"`
	TCPUseTLS              bool                `key:"tcp_use_tls"`
	UDP                    string              `key:"udp"`
	GRPC                   string              `key:"grpc"`
	GRPCUseTLS             bool                `key:"grpc_use_tls"`
	H2PING                 string              `key:"h2ping"`
	H2PingUseTLS           *bool               `key:"h2ping_use_tls"`
	TLSServerName          string              `key:"tls_server_name"`
	TLSSkipVerify          bool                `key:"tls_skip_verify"`
	AliasNode              string              `key:"alias_node"`
	AliasService           string              `key:"alias_service"`
	OSService              string              `key:"os_service"`
	Interval               time.Duration       `key:"interval"`
	Timeout                time.Duration       `key:"timeout"`
	TTL                    time.Duration       `key:"ttl"`
	OutputMaxSize          int                 `key:"output_max_size"`
	SuccessBeforePassing   int                 `key:"success_before_passing"`
	FailuresBeforeWarning  int                 `key:"failures_before_warning"`
	FailuresBeforeCritical int                 `key:"failures_before_critical"`

	DeregisterCriticalServiceAfter time.Duration `key:"deregister_critical_service_after"`
}

// Watch is a watch with the handler to run for it. Which parameters belong to
// which type is the watch package's to say, since the command line has them too.
type Watch struct {
	Type        string   `key:"type"`
	Datacenter  string   `key:"datacenter"`
	Token       string   `key:"token"`
	Stale       bool     `key:"stale"`
	Filter      string   `key:"filter"`
	Key         string   `key:"key"`
	Prefix      string   `key:"prefix"`
	Service     string   `key:"service"`
	Tags        []string `key:"tag"`
	PassingOnly bool     `key:"passingonly"`
	State       string   `key:"state"`
	Name        string   `key:"name"`
	ServiceID   string   `key:"service_id"`

	HandlerType string      `key:"handler_type"`
	Handler     string      `key:"handler"`
	Args        []string    `key:"args"`
	HTTP        HTTPHandler `key:"http_handler_config"`
}

// HTTPHandler is an endpoint that is told of changes.
type HTTPHandler struct {
	Path          string              `key:"path"`
	Method        string              `key:"method"`
	Header        map[string][]string `key:"header"`
	Timeout       time.Duration       `key:"timeout"`
	TLSSkipVerify bool                `key:"tls_skip_verify"`
}
