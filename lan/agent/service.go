package agent

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"landbridge/store"
)

// Service is a local service as the agent endpoints show it; its JSON form is
// spec http-agent.md 5. Immutable.
type Service struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string // name
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	SocketPath        string                          `json:",omitempty"`
	TaggedAddresses   map[string]store.ServiceAddress `json:",omitempty"`
	Weights           store.Weights
	EnableTagOverride bool
	ContentHash       string          `json:",omitempty"`
	Proxy             json.RawMessage `json:",omitempty" bexpr:"-"`
	Connect           json.RawMessage `json:",omitempty" bexpr:"-"`
	Locality          json.RawMessage `json:",omitempty" bexpr:"-"`
	Datacenter        string
}

// WithHash returns a copy whose ContentHash is set: what tells a caller of
// WaitService that the service changed. Health is no part of it.
func (s *Service) WithHash() *Service {
	c := *s
	c.ContentHash = s.hash()
	return &c
}

func (s *Service) hash() string {
	c := *s
	c.ContentHash = ""
	b, err := json.Marshal(&c)
	if err != nil {
		// Only a RawMessage that is no JSON can fail; definitions hold none.
		panic(fmt.Sprintf("agent: service %q does not encode: %v", s.ID, err))
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return fmt.Sprintf("%016x", h.Sum64())
}

// view makes the form of a service that the agent endpoints show.
func (a *Agent) view(r *store.Service) *Service {
	v := &Service{
		Kind:              r.Kind,
		ID:                r.ID,
		Service:           r.Name,
		Tags:              r.Tags,
		Meta:              r.Meta,
		Port:              r.Port,
		Address:           r.Address,
		SocketPath:        r.SocketPath,
		TaggedAddresses:   r.TaggedAddresses,
		Weights:           r.Weights,
		EnableTagOverride: r.EnableTagOverride,
		Proxy:             r.Proxy,
		Connect:           r.Connect,
		Locality:          r.Locality,
		Datacenter:        a.cfg.Datacenter,
	}
	if v.Tags == nil {
		v.Tags = []string{}
	}
	if v.Meta == nil {
		v.Meta = map[string]string{}
	}
	return v
}

// record makes the catalog's form of a definition with its defaults filled.
func (a *Agent) record(d *ServiceDefinition) *store.Service {
	return &store.Service{
		Node:              a.cfg.Node,
		Kind:              d.Kind,
		ID:                d.ID,
		Name:              d.Name,
		Tags:              slices.Clone(d.Tags),
		Address:           d.Address,
		TaggedAddresses:   maps.Clone(d.TaggedAddresses),
		Meta:              maps.Clone(d.Meta),
		Port:              d.Port,
		SocketPath:        d.SocketPath,
		Weights:           *d.Weights,
		EnableTagOverride: d.EnableTagOverride,
		Proxy:             d.Proxy,
		Connect:           d.Connect,
		Locality:          d.Locality,
	}
}

// ServiceHealth is a local service with its checks and the node's.
type ServiceHealth struct {
	AggregatedStatus string // passing, warning, critical or maintenance
	Service          *Service
	Checks           []*store.Check
}

// severity orders statuses for aggregation; an unknown word counts as critical.
func severity(status string) int {
	switch status {
	case store.Passing:
		return 0
	case store.Warning:
		return 1
	case store.Maintenance:
		return 3
	}
	return 2
}

// worst returns the aggregate of checks: maintenance before critical before
// warning before passing.
func worst(checks []*store.Check) string {
	status := store.Passing
	for _, c := range checks {
		s := c.Status
		if isMaintenance(c.CheckID) {
			s = store.Maintenance
		}
		if severity(s) > severity(status) {
			status = s
		}
	}
	if severity(status) == severity(store.Critical) {
		return store.Critical
	}
	return status
}
