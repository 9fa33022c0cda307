package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"time"

	"landbridge/store"
)

// Source says where a definition came from.
type Source uint8

// Where definitions come from. Files are the authority for their own: a reload
// removes what vanished from them.
const (
	FromAPI Source = iota
	FromFile
)

// ServiceDefinition is a service as registered, before defaults (spec
// http-agent.md 5, config.md 6).
type ServiceDefinition struct {
	ID                string `json:",omitempty"`
	Name              string
	Kind              string                          `json:",omitempty"`
	Tags              []string                        `json:",omitempty"`
	Address           string                          `json:",omitempty"`
	TaggedAddresses   map[string]store.ServiceAddress `json:",omitempty"`
	Meta              map[string]string               `json:",omitempty"`
	Port              int                             `json:",omitempty"`
	SocketPath        string                          `json:",omitempty"`
	EnableTagOverride bool                            `json:",omitempty"`
	Weights           *store.Weights                  `json:",omitempty"` // nil: 1 and 1
	Token             string                          `json:"-"`          // secret
	Proxy             json.RawMessage                 `json:",omitempty"`
	Connect           json.RawMessage                 `json:",omitempty"`
	Locality          json.RawMessage                 `json:",omitempty"`
	// SidecarOf is the id of the service whose Connect block asked for this one; it
	// goes with that service.
	SidecarOf string `json:",omitempty"`
	// Checks holds Check and Checks of the body, in that order, without empty
	// ones. Their ids and names may be empty.
	Checks []*CheckDefinition `json:"-"`
}

// CheckDefinition is a check as registered, before defaults (spec http-agent.md
// 6, config.md 7). Which kind it is shows by which member is set.
type CheckDefinition struct {
	ID        string `json:",omitempty"`
	Name      string `json:",omitempty"`
	ServiceID string `json:",omitempty"`
	Status    string `json:",omitempty"`
	Notes     string `json:",omitempty"`
	Token     string `json:"-"` // secret

	Interval Duration `json:",omitempty"`
	Timeout  Duration `json:",omitempty"`
	TTL      Duration `json:",omitempty"`

	Args              []string            `json:",omitempty"`
	DockerContainerID string              `json:",omitempty"`
	Shell             string              `json:",omitempty"`
	HTTP              string              `json:",omitempty"`
	Method            string              `json:",omitempty"`
	Header            map[string][]string `json:",omitempty"`
	Body              string              `json:",omitempty"`
	DisableRedirects  bool                `json:",omitempty"`
	TCP               string              `json:",omitempty"`
	TCPUseTLS         bool                `json:",omitempty"`
	UDP               string              `json:",omitempty"`
	GRPC              string              `json:",omitempty"`
	GRPCUseTLS        bool                `json:",omitempty"`
	H2PING            string              `json:",omitempty"`
	H2PingUseTLS      *bool               `json:",omitempty"` // nil: true
	TLSServerName     string              `json:",omitempty"`
	TLSSkipVerify     bool                `json:",omitempty"`
	AliasNode         string              `json:",omitempty"`
	AliasService      string              `json:",omitempty"`
	OSService         string              `json:",omitempty"`

	OutputMaxSize                  int      `json:",omitempty"`
	SuccessBeforePassing           int      `json:",omitempty"`
	FailuresBeforeWarning          int      `json:",omitempty"`
	FailuresBeforeCritical         int      `json:",omitempty"`
	DeregisterCriticalServiceAfter Duration `json:",omitempty"`
}

// Duration is a time.Duration that reads and writes the text form in JSON.
type Duration time.Duration

// MarshalText writes the form "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Ids and names of maintenance checks.
const (
	NodeMaintenance          = "_node_maintenance"
	ServiceMaintenancePrefix = "_service_maintenance:"
)

func isMaintenance(checkID string) bool {
	return checkID == NodeMaintenance || strings.HasPrefix(checkID, ServiceMaintenancePrefix)
}

// Type is the check's kind as shown in the catalog, "" if none is given.
func (c *CheckDefinition) Type() string {
	switch {
	case isMaintenance(c.ID):
		return "maintenance"
	case c.DockerContainerID != "":
		return "docker"
	case len(c.Args) > 0:
		return "script"
	case c.HTTP != "":
		return "http"
	case c.TCP != "":
		return "tcp"
	case c.UDP != "":
		return "udp"
	case c.GRPC != "":
		return "grpc"
	case c.H2PING != "":
		return "h2ping"
	case c.AliasNode != "" || c.AliasService != "":
		return "alias"
	case c.OSService != "":
		return "os_service"
	case c.TTL > 0:
		return "ttl"
	}
	return ""
}

func (c *CheckDefinition) empty() bool {
	// ServiceID and Token alone define nothing: such a block is ignored as an
	// empty one is.
	return c.Type() == "" && c.ID == "" && c.Name == "" && c.Status == "" && c.Notes == "" &&
		c.Interval == 0 && c.TTL == 0 && c.Timeout == 0
}

// validate checks a definition by itself; the error has no prefix.
func (c *CheckDefinition) validate() error {
	if isMaintenance(c.ID) {
		return nil
	}
	for _, d := range []struct {
		field string
		value Duration
	}{{"Interval", c.Interval}, {"TTL", c.TTL}, {"Timeout", c.Timeout}, {"DeregisterCriticalServiceAfter", c.DeregisterCriticalServiceAfter}} {
		if d.value < 0 {
			return fmt.Errorf("%s must not be negative, is %s", d.field, time.Duration(d.value))
		}
	}
	for _, n := range []struct {
		field string
		value int
	}{{"SuccessBeforePassing", c.SuccessBeforePassing}, {"FailuresBeforeWarning", c.FailuresBeforeWarning}, {"FailuresBeforeCritical", c.FailuresBeforeCritical}} {
		if n.value < 0 {
			return fmt.Errorf("%s must not be negative, is %d", n.field, n.value)
		}
	}
	kind := c.Type()
	running := kind != "" && kind != "alias" && kind != "ttl"
	switch {
	case running && c.Interval <= 0:
		return fmt.Errorf("Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks")
	case kind == "alias" && c.Interval != 0:
		return fmt.Errorf("Interval cannot be set for Alias checks")
	case kind == "alias" && c.TTL != 0:
		return fmt.Errorf("TTL cannot be set for Alias checks")
	case !running && kind != "alias" && c.TTL <= 0:
		return fmt.Errorf("TTL must be > 0 for TTL checks")
	case c.Interval > 0 && c.TTL > 0:
		return fmt.Errorf("Interval and TTL cannot both be specified")
	case c.OutputMaxSize < 0:
		return fmt.Errorf("MaxOutputMaxSize must be positive")
	case c.FailuresBeforeWarning > c.FailuresBeforeCritical:
		return fmt.Errorf("FailuresBeforeWarning can't be higher than FailuresBeforeCritical")
	}
	return nil
}

// supported refuses, in words, the kinds this agent may not or cannot run.
func (a *Agent) supported(c *CheckDefinition, from Source) error {
	switch kind := c.Type(); {
	case kind == "os_service" && runtime.GOOS != "linux":
		return store.Errorf(store.KindInvalid, "not implemented")
	case kind != "script" && kind != "docker", a.cfg.EnableScriptChecks:
		return nil
	case from != FromFile: // status and text as the peer answers
		return store.Errorf(store.KindInvalid, "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")
	case !a.cfg.EnableLocalScriptChecks:
		return store.Errorf(store.KindBadRequest, "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true")
	}
	return nil
}

func validStatus(s string) bool {
	return s == store.Passing || s == store.Warning || s == store.Critical
}

// dnsLabel is a name that DNS can carry.
var dnsLabel = regexp.MustCompile(`^[a-zA-Z0-9-]{1,63}$`)

var metaKey = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

const (
	maxMetaPairs = 64
	maxMetaKey   = 128
	maxMetaValue = 512
)

func validateMeta(meta map[string]string) error {
	if len(meta) > maxMetaPairs {
		return fmt.Errorf("Node metadata cannot contain more than %d key/value pairs", maxMetaPairs)
	}
	for k, v := range meta {
		var why string
		switch {
		case k == "":
			why = "Key cannot be blank"
		case !metaKey.MatchString(k):
			why = "Key contains invalid characters"
		case len(k) > maxMetaKey:
			why = fmt.Sprintf("Key is too long (limit: %d characters)", maxMetaKey)
		case len(v) > maxMetaValue:
			why = fmt.Sprintf("Value is too long (limit: %d characters)", maxMetaValue)
		default:
			continue
		}
		return fmt.Errorf("Couldn't load metadata pair ('%s', '%s'): %s", k, v, why)
	}
	return nil
}

func validateWeights(w *store.Weights) error {
	const maxWeight = 65535
	switch {
	case w == nil:
		return nil
	case w.Passing < 1:
		return fmt.Errorf("Passing must be greater than 0")
	case w.Warning < 0:
		return fmt.Errorf("Warning must be greater or equal than 0")
	case w.Passing > maxWeight || w.Warning > maxWeight:
		return fmt.Errorf("DNS Weight must be between 0 and 65535")
	}
	return nil
}

// normalizeService checks a definition and returns a copy with defaults filled:
// ids and names of its checks too. The given one is left as it was.
func (a *Agent) normalizeService(in *ServiceDefinition, from Source) (*ServiceDefinition, error) {
	d := *in
	if d.Name == "" {
		return nil, store.Errorf(store.KindBadRequest, "Missing service name")
	}
	if d.ID == "" {
		d.ID = d.Name
	}
	switch d.Address {
	case "0.0.0.0", "::", "[::]":
		return nil, store.Errorf(store.KindBadRequest, "Invalid service address")
	}
	if err := validateMeta(d.Meta); err != nil {
		return nil, store.Errorf(store.KindBadRequest, "Invalid Service Meta: %w", err)
	}
	if err := validateWeights(d.Weights); err != nil {
		return nil, store.Errorf(store.KindBadRequest, "Invalid Weights: %w", err)
	}
	if d.Weights == nil {
		d.Weights = &store.Weights{Passing: 1, Warning: 1}
	}
	if err := normalizeMesh(&d); err != nil {
		return nil, err
	}
	d.TaggedAddresses = withAddressTags(d.TaggedAddresses, d.Address, d.Port)
	var checks []*CheckDefinition
	for _, c := range in.Checks {
		if c != nil && !c.empty() {
			cp := *c
			checks = append(checks, &cp)
		}
	}
	for i, c := range checks {
		given := c.ID
		switch {
		case c.ID != "":
		case len(checks) == 1:
			c.ID = "service:" + d.ID
		default:
			c.ID = fmt.Sprintf("service:%s:%d", d.ID, i+1)
		}
		if c.Name == "" {
			c.Name = fmt.Sprintf("Service '%s' check", d.Name)
		}
		if c.Token == "" {
			c.Token = d.Token
		}
		c.ServiceID = d.ID
		if err := a.checkDefinition(c, from); err != nil {
			if from == FromFile {
				err = store.Errorf(store.KindInvalid, "check %q: %w", given, err)
			}
			return nil, err
		}
	}
	d.Checks = checks
	return &d, nil
}

// normalizeCheck checks a definition that stands alone and returns a copy with
// defaults filled. That its service exists is the caller's to check.
func (a *Agent) normalizeCheck(in *CheckDefinition, from Source) (*CheckDefinition, error) {
	c := *in
	if c.Name == "" {
		return nil, store.Errorf(store.KindBadRequest, "Missing check name")
	}
	if c.ID == "" {
		c.ID = c.Name
	}
	if err := a.checkDefinition(&c, from); err != nil {
		return nil, err
	}
	return &c, nil
}

func (a *Agent) checkDefinition(c *CheckDefinition, from Source) error {
	if c.Status != "" && !validStatus(c.Status) {
		return store.Errorf(store.KindBadRequest, "Bad check status")
	}
	if err := c.validate(); err != nil {
		if from == FromFile {
			return err // the caller says which block it is in
		}
		return store.Errorf(store.KindBadRequest, "Invalid check: %w", err)
	}
	if err := a.supported(c, from); err != nil {
		return err
	}
	// As they come back from the disk: a definition registered again is compared.
	if len(c.Args) == 0 {
		c.Args = nil
	}
	if len(c.Header) == 0 {
		c.Header = nil
	}
	if c.Interval > 0 {
		c.Interval = max(c.Interval, Duration(minCheckInterval))
	}
	if c.DeregisterCriticalServiceAfter > 0 {
		c.DeregisterCriticalServiceAfter = max(c.DeregisterCriticalServiceAfter, Duration(minReapAfter))
	}
	return nil
}

// withAddressTags adds the lan and wan address of the service's own family,
// unless the definition names them itself.
func withAddressTags(given map[string]store.ServiceAddress, address string, port int) map[string]store.ServiceAddress {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return given
	}
	family := "_ipv4"
	if ip.Is6() && !ip.Is4In6() {
		family = "_ipv6"
	}
	out := maps.Clone(given)
	for _, scope := range []string{"lan", "wan"} {
		_, plain := given[scope]
		_, tagged := given[scope+family]
		if plain || tagged {
			continue
		}
		if out == nil {
			out = make(map[string]store.ServiceAddress, 2)
		}
		out[scope+family] = store.ServiceAddress{Address: address, Port: port}
	}
	return out
}
