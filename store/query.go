package store

import "time"

// Query holds the arguments of a read. Which of them a method looks at is said
// beside its id (forwarding/rpc).
type Query struct {
	Name        string // key, prefix, node, service, status or address
	Tags        []string
	NodeMeta    map[string]string
	PassingOnly bool
	Separator   string
	Near        string // sort by RTT from this node
}

// ServiceInstance is one element of a health answer in the records
// representation: an instance, its node, and the node's and instance's checks.
type ServiceInstance struct {
	Node    *Node
	Service *Service
	Checks  []*Check
}

// NodeServices is a node with its services, in the records representation.
type NodeServices struct {
	Node     *Node
	Services []*Service
}

// ServerStatus is what a server says of itself to the others of its datacenter.
type ServerStatus struct {
	NodeID    string
	Node      string
	ClusterID string   // "" before the first leader
	Peers     []string // Raft configuration: server ids; empty before bootstrap
	LastTerm  uint64
	LastIndex uint64
	Leader    bool
	// HasState is whether it found its Raft state at start.
	HasState bool
	// LastContact is the time since it heard from the leader, 0 on the leader,
	// negative if it never did.
	LastContact time.Duration
	// Started is when its process started, in Unix nanoseconds: another value
	// without HasState means that it lost its state.
	Started int64
	// Recoveries is Cluster.Recoveries, with one that is not in the state yet.
	Recoveries uint64
}
