package client

import "time"

// Member is an entry of /v1/agent/members.
type Member struct {
	Name        string
	Addr        string
	Port        uint16
	Tags        map[string]string
	Status      int
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

// KVPair is an entry of /v1/kv.
type KVPair struct {
	LockIndex   uint64
	Key         string
	Flags       uint64
	Value       []byte
	Session     string `json:",omitempty"`
	CreateIndex uint64
	ModifyIndex uint64
}

// Node is an entry of /v1/catalog/nodes; also the part of a service's entry
// that is about its node.
type Node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string `json:",omitempty"`
	NodeMeta        map[string]string `json:",omitempty"` // where Meta is called so
}

// CatalogNode is the answer of /v1/catalog/node.
type CatalogNode struct {
	Node     *Node
	Services map[string]struct {
		Service string
		Tags    []string
	}
}

// RaftServer is an entry of /v1/operator/raft/configuration.
type RaftServer struct {
	ID              string
	Node            string
	Address         string
	Leader          bool
	ProtocolVersion string
	Voter           bool
	LastIndex       uint64
}

// RaftConfiguration is the answer of /v1/operator/raft/configuration.
type RaftConfiguration struct {
	Servers []RaftServer
	Index   uint64
}

// AutopilotConfig is the body of /v1/operator/autopilot/configuration.
type AutopilotConfig struct {
	CleanupDeadServers      bool
	LastContactThreshold    string
	MaxTrailingLogs         uint64
	MinQuorum               uint
	ServerStabilizationTime string
	RedundancyZoneTag       string
	DisableUpgradeMigration bool
	UpgradeVersionTag       string
	CreateIndex             uint64
	ModifyIndex             uint64
}

// AutopilotState is the answer of /v1/operator/autopilot/state.
type AutopilotState struct {
	Healthy                    bool
	FailureTolerance           int
	OptimisticFailureTolerance int
	Leader                     string
	Voters                     []string
	Servers                    map[string]AutopilotServer
}

// AutopilotServer is an entry of AutopilotState.
type AutopilotServer struct {
	Name        string
	Address     string
	Version     string
	Status      string
	NodeType    string
	NodeStatus  string
	Healthy     bool
	LastContact string
	LastTerm    uint64
	LastIndex   uint64
	Meta        map[string]string
}

// Usage is what /v1/operator/usage tells of a datacenter.
type Usage struct {
	Nodes                    int
	Services                 int
	ServiceInstances         int
	ConnectServiceInstances  map[string]int
	BillableServiceInstances int
}

// JoinToken is the answer of /v1/internal/federation/token.
type JoinToken struct {
	Token      string
	ID         string
	Expires    time.Time
	Datacenter string
	Addresses  []string
	Root       string
}

// CAStatus is the body of /v1/internal/federation/ca.
type CAStatus struct {
	Datacenter      string
	Node            string
	Mode            string
	FederationID    string
	Primary         string
	Revision        uint64
	Unauthenticated bool
	Roots           []CACert
	Intermediate    CACert
	Server          *CACert
	Datacenters     []struct {
		Name string
		Done bool
	}
	Revoked []struct {
		Node, Datacenter string
		Evicted          time.Time
		Lifted           *time.Time
	}
	Tokens []struct {
		ID                 string
		Expires            time.Time
		Datacenter, UsedBy string
	}
	Promotion, Claim *Promotion
	Configured       string // primary_datacenter, where a promotion overrules it
}

// Promotion is how a datacenter became the primary.
type Promotion struct {
	Primary, Former string
	Term            uint64
	At              time.Time
	Root            string
	Accessor        string
	Accepted        bool
}

// PromotionPlan is the body of /v1/internal/federation/promotion.
type PromotionPlan struct {
	Datacenter, Primary       string
	Term                      uint64
	Refused                   string
	PrimaryAnswers            bool
	PrimaryError, Copy        string
	Position                  uint64
	LastSuccess               time.Time
	LagSeconds                float64
	Held, TokensWithoutSecret int
	Datacenters               []string
	Root                      string
}

// UnseenList is the body of /v1/internal/federation/unseen.
type UnseenList struct {
	Primary, Former string
	Term            uint64
	Changes         []struct{ Change, Kind, ID, Name string }
}

// CACert is a certificate of CAStatus.
type CACert struct {
	ID             string
	NotAfter, Made time.Time
	Root, State    string
}

// CARotation is the answer of /v1/internal/federation/ca/rotate.
type CARotation struct{ Root, Datacenter string }
