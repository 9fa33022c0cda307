package store

import (
	"encoding/json"
	"sync/atomic"
)

// Node is a machine in the catalog (spec http-catalog-health 1). Names compare
// case-insensitively. Immutable once published by the state store.
type Node struct {
	ID              string // UUID, or "" for an external node
	Node            string // name
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
	CreateIndex     Index
	ModifyIndex     Index

	json        atomic.Pointer[[]byte]
	catalogJSON atomic.Pointer[[]byte] // the node's half of the CatalogService form
	wire        atomic.Pointer[[]byte]
}

// ServiceAddress is an address with a port, as found under TaggedAddresses.
type ServiceAddress struct {
	Address string
	Port    int
}

// Weights are the DNS SRV weights of an instance by its health.
type Weights struct {
	Passing int
	Warning int
}

// Service is one instance of a service on a node. Immutable once published.
type Service struct {
	Node              string // name of the node it lives on, as stored
	Kind              string
	ID                string
	Name              string // the JSON field "Service"
	Tags              []string
	Address           string
	TaggedAddresses   map[string]ServiceAddress
	Meta              map[string]string
	Port              int
	SocketPath        string
	Weights           Weights
	EnableTagOverride bool
	// Blocks of the service mesh, kept and returned as given (compact JSON), or
	// nil when none was given.
	Proxy, Connect, Locality json.RawMessage
	CreateIndex              Index
	ModifyIndex              Index

	json        atomic.Pointer[[]byte] // NodeService form
	catalogJSON atomic.Pointer[[]byte] // CatalogService form, without the node's half
	connect     atomic.Pointer[string] // ConnectTarget
}

// ConnectTarget returns the name of the service the instance speaks for in the
// mesh: a proxy's destination, or its own if it is native; "" for all others. It
// is read from the mesh blocks once.
func (s *Service) ConnectTarget() string {
	if len(s.Proxy) == 0 && len(s.Connect) == 0 {
		return ""
	}
	if p := s.connect.Load(); p != nil {
		return *p
	}
	var target string
	var proxy struct{ DestinationServiceName string }
	var connect struct{ Native bool }
	if s.Kind == "connect-proxy" {
		if json.Unmarshal(s.Proxy, &proxy) == nil {
			target = proxy.DestinationServiceName
		}
	} else if json.Unmarshal(s.Connect, &connect) == nil && connect.Native {
		target = s.Name
	}
	s.connect.Store(&target)
	return target
}

// Check statuses. A record may hold any other word: catalog registration does
// not validate it (spec http-catalog-health 2).
const (
	Passing     = "passing"
	Warning     = "warning"
	Critical    = "critical"
	Maintenance = "maintenance" // aggregates only
	AnyStatus   = "any"         // queries only
)

// SerfHealth is the id of the node-level check kept by the leader from gossip.
const SerfHealth = "serfHealth"

// ServerService is the id and the name of the service that each server is.
const ServerService = "consul"

// Check is a health check of a node (ServiceID "") or of a service instance.
// Immutable once published.
type Check struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	Definition  json.RawMessage // compact JSON object of the non-zero members, or nil
	CreateIndex Index
	ModifyIndex Index

	json atomic.Pointer[[]byte]
}

// RegisterCommand is the payload of CmdRegister: all parts or none. A nil
// Service leaves services alone; Checks whose Node is "" belong to Node.
type RegisterCommand struct {
	Node           Node
	SkipNodeUpdate bool
	Service        *Service
	Checks         []*Check
}

// DeregisterCommand is the payload of CmdDeregister. ServiceID wins over
// CheckID; with neither, the node goes with all it owns.
type DeregisterCommand struct {
	Node      string
	ServiceID string
	CheckID   string
}
