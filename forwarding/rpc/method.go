package rpc

import "landbridge/store/acl"

// MethodID names a method on the wire. Numbers are never reused.
type MethodID uint16

// The methods a server answers. Arguments: a store.Query in Request.Query for
// reads; the encoded payload of the command in Request.Body for writes.
const (
	Ping MethodID = 1 // answers an empty body; liveness

	KVGet   MethodID = 10 // Query.Name = key; json, pretty, raw
	KVList  MethodID = 11 // Query.Name = prefix
	KVKeys  MethodID = 12 // Query.Name = prefix, Query.Separator
	KVApply MethodID = 13 // Body = store.KVCommand

	CatalogRegister        MethodID = 20 // Body = store.RegisterCommand
	CatalogDeregister      MethodID = 21 // Body = store.DeregisterCommand
	CatalogDatacenters     MethodID = 22 // answered by any server from its directory
	CatalogNodes           MethodID = 23
	CatalogServices        MethodID = 24
	CatalogServiceNodes    MethodID = 25 // Query.Name = service
	CatalogConnectNodes    MethodID = 26
	CatalogNodeServices    MethodID = 27 // Query.Name = node, UUID or its unique prefix: {"Node","Services":{id:..}}
	CatalogNodeServiceList MethodID = 28 // the same with a list
	CatalogByAddress       MethodID = 29 // Query.Name = IP; records only: nodes and services with that address (PTR)

	HealthNode    MethodID = 30 // Query.Name = node
	HealthChecks  MethodID = 31 // Query.Name = service
	HealthService MethodID = 32 // Query.Name = service; the DNS workhorse
	HealthConnect MethodID = 33
	HealthState   MethodID = 34 // Query.Name = status
	CatalogNode   MethodID = 35 // Query.Name = node; records only: the store.Node alone, NotFound if there is none

	StatusLeader MethodID = 40 // json string
	StatusPeers  MethodID = 41 // json list
	StatusServer MethodID = 42 // records: store.ServerStatus, for bootstrap and autopilot
	// StatusBootstrap asks a server to promise that it lets only the server with
	// id Query.Name bootstrap; refused with KindConflict. Answers like StatusServer.
	StatusBootstrap MethodID = 43
	MemberMissed    MethodID = 44 // Query.Name = client agent whose session ended: the leader looks whether it is there

	TrustPromote          MethodID = 38 // Body = trust's own message: the datacenter becomes the primary; json
	TrustFollow           MethodID = 45 // the same: it accepts that another one is; json
	TrustPromotion        MethodID = 46 // the answer's Body = store.Promotion, the highest that is known
	TrustPromotionPlan    MethodID = 39 // what is known before a promotion; json
	TrustHolder           MethodID = 47 // Body = trust's own message: whether a server asked for a certificate
	TrustStatus           MethodID = 48 // what the server that answers knows of certificates; json
	TrustPull             MethodID = 49 // the leader asks the primary for news
	TrustRoots            MethodID = 50 // json, the shape of /v1/connect/ca/roots
	TrustSignServer       MethodID = 51 // Body = trust's own message: CSR of a server of this datacenter
	TrustSignIntermediate MethodID = 52 // the same: CSR of a datacenter's intermediate, in the primary
	TrustJoin             MethodID = 53 // the leader enrols its datacenter with an address
	FederationPeers       MethodID = 54 // Body = WAN addresses to join: the push after a join
	TrustSync             MethodID = 55 // the primary's roots, datacenters and revocations, for another datacenter
	TrustConfirm          MethodID = 56 // Body = trust's own message: a datacenter has done with replaced roots
	TrustToken            MethodID = 57 // the same: a token for one join; json
	TrustEvict            MethodID = 58 // the same: a server or datacenter is evicted, or let in again
	TrustRotate           MethodID = 59 // the same: new certificates at an operator's command; json

	// FederationStatus tells how the servers that answer reach the others of the WAN.
	// Query.Name = StatusOwn: the row of the server asked; StatusDatacenter: those of
	// its datacenter; StatusFederation: all of them. json, federation.Status.
	FederationStatus MethodID = 122
	// FederationLeave takes the server asked (Query.Name = StatusOwn) or its datacenter
	// (StatusDatacenter) out of the WAN.
	FederationLeave MethodID = 123

	AutopilotConfig    MethodID = 60
	AutopilotSetConfig MethodID = 61 // Body = store.AutopilotCommand
	RaftConfiguration  MethodID = 62
	RaftRemovePeer     MethodID = 63 // Body = store.RaftPeer
	RaftTransferLeader MethodID = 64 // Query.Name = id, "" lets the leader choose
	AutopilotHealth    MethodID = 65
	AutopilotState     MethodID = 66
	// OperatorUsage tells how much the catalog holds, with Query.Name = UsageGlobal
	// the catalogs of all datacenters. Records: the store.Usage of one.
	OperatorUsage MethodID = 67

	SessionList    MethodID = 70
	SessionGet     MethodID = 71 // Query.Name = id: a list of one or none
	SessionNode    MethodID = 72 // Query.Name = node
	SessionCreate  MethodID = 73 // Body = store.SessionCommand; json {"ID":..}
	SessionDestroy MethodID = 74 // Body = store.SessionCommand
	SessionRenew   MethodID = 75 // Query.Name = id; not in the log: the leader's clock alone

	TxnApply MethodID = 80 // Body = store.TxnCommand; json, pretty
	TxnRead  MethodID = 81 // the same, with operations that only read

	EventFire MethodID = 100 // Body = store.UserEvent: gossiped in the LAN pool of the datacenter

	CoordinateUpdate      MethodID = 110 // Body = store.Coordinate: kept by the leader, written with others
	CoordinateNodes       MethodID = 111
	CoordinateNode        MethodID = 112 // Query.Name = node
	CoordinateDatacenters MethodID = 113 // answered by any server from its view of the WAN

	KeyringRings MethodID = 140 // Body = store.KeyringRequest: for the rings of all datacenters; json
	KeyringRing  MethodID = 141 // the same for the ring of the datacenter that answers; a store.KeyringRing
	QueryApply   MethodID = 90  // Body = store.QueryCommand; a creation answers {"ID":..}
	QueryGet     MethodID = 91  // Query.Name = id
	QueryList    MethodID = 92
	QueryExecute MethodID = 93 // Query.Name = id or name, Query.Near, Body = store.QueryExecute; records: store.QueryResult
	QueryExplain MethodID = 94 // Query.Name = id or name
	// QueryExecuteHere executes the interpolated query in Body (store.QueryExecute)
	// in one datacenter only: what a server asks of others on failover. Records.
	QueryExecuteHere MethodID = 95

	// CatalogSync makes the changes in Body (store.CatalogBatch) in order and answers
	// with a store.CatalogOutcome: what an agent has to tell, in one call.
	CatalogSync MethodID = 150

	// ACLResolve tells agents, and servers of other datacenters, whose secret
	// Request.Token is and what it may do; Query.Name is the digest of what the asker
	// has. Records of forwarding/identity.
	ACLResolve MethodID = 160

	// ACLApply carries out the store.ACLRequest in Body, in this datacenter or, for
	// what belongs to all, in the primary. json: the record, or true.
	ACLApply           MethodID = 161
	ACLTokenGet        MethodID = 162 // Query.Name = accessor; Query.Separator "expanded" adds what it leads to
	ACLTokenSelf       MethodID = 163 // of Request.Token
	ACLTokenList       MethodID = 164 // Query.NodeMeta: one of policy, role, servicename, authmethod
	ACLPolicyGet       MethodID = 165 // Query.Name = id
	ACLPolicyByName    MethodID = 166
	ACLPolicyList      MethodID = 167
	ACLRoleGet         MethodID = 168 // Query.Name = id
	ACLRoleByName      MethodID = 169
	ACLRoleList        MethodID = 170 // Query.NodeMeta: policy
	ACLBindingRuleGet  MethodID = 171 // Query.Name = id
	ACLBindingRuleList MethodID = 172 // Query.Name = auth method, "" for all
	ACLAuthMethodGet   MethodID = 173 // Query.Name = name
	ACLAuthMethodList  MethodID = 174
	ACLBootstrap       MethodID = 175 // Body = the secret, or empty; json: the token
	ACLLogin           MethodID = 176 // Body = store.ACLLogin; json: the token
	ACLLogout          MethodID = 177 // deletes Request.Token
	// ACLReplicationStatus tells how the copy of the primary's ACLs is doing.
	ACLReplicationStatus MethodID = 178
	ACLAuthorize         MethodID = 179 // Body = json, questions about Request.Token's rights
	ACLTemplates         MethodID = 180 // Query.Separator = list, read or preview; Query.Name = template; Body = json variables

	// What secondary datacenters ask the primary (acl_replication): Query.Name is
	// ReplicateTokens, ReplicateHashes or "", Body a question, and the answer a record, of package
	// acl_replication/replica. ACLFollow answers with Response.Stream, without end.
	ACLFollow MethodID = 190
	ACLTrees  MethodID = 191
	ACLLeaves MethodID = 192
	ACLRows   MethodID = 193
	// How the copy is doing, json; and what an operator does about deletions: approve
	// those whose id is Query.Name, or undo those of the last Query.Name, a duration.
	ACLReplicationDetail  MethodID = 194
	ACLReplicationApprove MethodID = 195
	ACLReplicationUndo    MethodID = 196
	// Changes from before a promotion that the primary never saw, json; and what an
	// operator does about those whose ids, with commas between, are Query.Name, or all.
	ACLUnseen        MethodID = 197
	ACLUnseenApply   MethodID = 198
	ACLUnseenDiscard MethodID = 199
	ACLReapply       MethodID = 181 // Body = store.ACLChange: the primary writes it as it is; of ACLUpdate, a token, the secret

	// What datacenters with a copy of keys ask their source (acl_replication/kv): Body is
	// a question, and the answer a record, of package kv. KVFollow answers with
	// Response.Stream, without end.
	KVFollow MethodID = 200
	KVTrees  MethodID = 201
	KVLeaves MethodID = 202
	KVRows   MethodID = 203
	// How the copies are doing, json; and the deletions whose id is Query.Name are made.
	KVReplicationDetail  MethodID = 204
	KVReplicationApprove MethodID = 205

	SnapshotSave    MethodID = 120 // answers Response.Stream: an archive (store/archive)
	SnapshotRestore MethodID = 121 // Request.Upload = an archive
)

// ReplicateTokens is the Query.Name of the methods of ACL replication that asks for
// tokens too, whose secrets need more rights.
const ReplicateTokens = "tokens"

// ReplicateHashes is the one that asks for tokens without their secrets, which needs no
// more than acl:read.
const ReplicateHashes = "hashes"

// What FederationStatus and FederationLeave are about.
const (
	StatusOwn        = "own"
	StatusDatacenter = "datacenter"
	StatusFederation = "federation"
)

// UsageGlobal is the Query.Name of OperatorUsage that asks for all datacenters.
const UsageGlobal = "global"

// Where says which server of a datacenter can answer a method.
type Where uint8

const (
	// ByConsistency: the leader, or any server for stale reads.
	ByConsistency Where = iota
	// Leader: only the leader, whatever the consistency (all writes).
	Leader
	// AnyServer answers from what it knows, without a leader too.
	AnyServer
)

// Resource is the kind of right a method needs; the name it is checked against
// comes from the request. ACLs are enforced at the server that answers.
type Resource uint8

const (
	NoResource Resource = iota
	KeyResource
	NodeResource
	ServiceResource // and the node that hosts it
	OperatorResource
	KeyringResource
	EventResource
	SessionResource    // on the node it belongs to
	QueryResource      // a prepared query, by name
	ManagementResource // the right to read and write everything, acl:write
	ServerResource     // only servers and agents of the federation call it, never a user
)

// ACL returns the resource in the words of the rules.
func (r Resource) ACL() acl.Resource {
	switch r {
	case KeyResource:
		return acl.Key
	case NodeResource:
		return acl.Node
	case ServiceResource:
		return acl.Service
	case KeyringResource:
		return acl.Keyring
	case EventResource:
		return acl.Event
	case SessionResource:
		return acl.Session
	case QueryResource:
		return acl.Query
	case ManagementResource:
		return acl.ACL
	}
	return acl.Operator
}

// Rights says how a method sees to it that nobody gets or does what their token
// does not allow. It has no default: a method that declares none is refused where
// it would run, and fails a test.
type Rights uint8

const (
	undeclared Rights = iota
	// Open needs nothing, not even a token that exists.
	Open
	// ByName needs Access to the thing of Resource that Query.Name names.
	ByName
	// Whole needs Access to Resource, which has no names.
	Whole
	// ByBody needs what a check of its own says (forwarding/endpoint): of what the
	// body names, or of what is stored under an id.
	ByBody
	// Filtered answers to any token that exists, without what it may not read.
	Filtered
	// Servers is for servers and agents of the federation, which sessions
	// authenticate; admit sees to it.
	Servers
)

// Declared is whether the method says what it needs.
func (r Rights) Declared() bool { return r != undeclared && r <= Servers }

// Method declares once where a method runs. The dispatcher reads nothing else.
type Method struct {
	ID         MethodID
	Name       string // "KV.Get": in errors, logs and the metric label method
	Write      bool
	Where      Where
	LocalOnly  bool // refused when it comes from, or is meant for, another datacenter
	Repeatable bool // may be sent again when its outcome is unknown
	Blocking   bool // honours Request.MinIndex
	Stream     bool // Request.Upload or Response.Stream may carry bytes without end; with Blocking they wait for changes
	Resource   Resource
	Rights     Rights
	Access     acl.Access // with ByName and Whole; Read unless it says otherwise
}

var methods = [...]Method{
	{ID: Ping, Name: "Status.Ping", Where: AnyServer, Repeatable: true, Rights: Open},

	{ID: KVGet, Name: "KV.Get", Repeatable: true, Blocking: true, Resource: KeyResource, Rights: ByName},
	{ID: KVList, Name: "KV.List", Repeatable: true, Blocking: true, Resource: KeyResource, Rights: Filtered},
	{ID: KVKeys, Name: "KV.Keys", Repeatable: true, Blocking: true, Resource: KeyResource, Rights: Filtered},
	{ID: KVApply, Name: "KV.Apply", Write: true, Where: Leader, Resource: KeyResource, Rights: ByBody},

	{ID: CatalogRegister, Name: "Catalog.Register", Write: true, Where: Leader, Resource: NodeResource, Rights: ByBody},
	{ID: CatalogDeregister, Name: "Catalog.Deregister", Write: true, Where: Leader, Resource: NodeResource, Rights: ByBody},
	{ID: CatalogSync, Name: "Catalog.Sync", Write: true, Where: Leader, LocalOnly: true, Rights: ByBody}, // each change needs what it would need alone
	{ID: CatalogDatacenters, Name: "Catalog.Datacenters", Where: AnyServer, LocalOnly: true, Repeatable: true, Rights: Open},
	{ID: CatalogNodes, Name: "Catalog.Nodes", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},
	{ID: CatalogServices, Name: "Catalog.Services", Repeatable: true, Blocking: true, Resource: ServiceResource, Rights: Filtered},
	{ID: CatalogServiceNodes, Name: "Catalog.ServiceNodes", Repeatable: true, Blocking: true, Resource: ServiceResource, Rights: Filtered},
	{ID: CatalogConnectNodes, Name: "Catalog.ConnectNodes", Repeatable: true, Blocking: true, Resource: ServiceResource, Rights: Filtered},
	{ID: CatalogNodeServices, Name: "Catalog.NodeServices", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},
	{ID: CatalogNodeServiceList, Name: "Catalog.NodeServiceList", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},
	{ID: CatalogNode, Name: "Catalog.Node", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},
	{ID: CatalogByAddress, Name: "Catalog.ByAddress", Repeatable: true, Resource: NodeResource, Rights: Filtered},

	{ID: HealthNode, Name: "Health.Node", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},
	{ID: HealthChecks, Name: "Health.Checks", Repeatable: true, Blocking: true, Resource: ServiceResource, Rights: Filtered},
	{ID: HealthService, Name: "Health.Service", Repeatable: true, Blocking: true, Resource: ServiceResource, Rights: Filtered},
	{ID: HealthConnect, Name: "Health.Connect", Repeatable: true, Blocking: true, Resource: ServiceResource, Rights: Filtered},
	{ID: HealthState, Name: "Health.State", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},

	{ID: StatusLeader, Name: "Status.Leader", Where: AnyServer, Repeatable: true, Rights: Open},
	{ID: StatusPeers, Name: "Status.Peers", Where: AnyServer, Repeatable: true, Rights: Open},
	{ID: StatusBootstrap, Name: "Status.Bootstrap", Where: AnyServer, LocalOnly: true, Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: MemberMissed, Name: "Member.Missed", Where: Leader, LocalOnly: true, Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: StatusServer, Name: "Status.Server", Where: AnyServer, LocalOnly: true, Repeatable: true, Resource: ServerResource, Rights: Servers},

	{ID: TrustRoots, Name: "Trust.Roots", Repeatable: true, Blocking: true, Rights: Open},
	{ID: TrustSignServer, Name: "Trust.SignServer", Where: Leader, LocalOnly: true, Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: TrustSignIntermediate, Name: "Trust.SignIntermediate", Where: Leader, Resource: ServerResource, Rights: Servers},
	{ID: TrustJoin, Name: "Trust.Join", Where: Leader, LocalOnly: true, Resource: ServerResource, Rights: Servers},
	{ID: TrustSync, Name: "Trust.Sync", Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: TrustConfirm, Name: "Trust.Confirm", Where: Leader, Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: TrustPull, Name: "Trust.Pull", Where: Leader, LocalOnly: true, Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: TrustHolder, Name: "Trust.Holder", Where: AnyServer, LocalOnly: true, Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: TrustToken, Name: "Trust.Token", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: TrustEvict, Name: "Trust.Evict", Write: true, Where: Leader, Repeatable: true, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: TrustRotate, Name: "Trust.Rotate", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: TrustPromotion, Name: "Trust.Promotion", Where: AnyServer, Repeatable: true, Resource: ServerResource, Rights: Servers},
	{ID: TrustPromotionPlan, Name: "Trust.PromotionPlan", Where: Leader, Repeatable: true, Resource: OperatorResource, Rights: Whole},
	{ID: TrustPromote, Name: "Trust.Promote", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: TrustFollow, Name: "Trust.Follow", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: TrustStatus, Name: "Trust.Status", Where: AnyServer, Repeatable: true, Resource: OperatorResource, Rights: Whole},
	{ID: FederationPeers, Name: "Federation.Peers", Where: AnyServer, LocalOnly: true, Repeatable: true, Resource: ServerResource, Rights: Servers},

	{ID: FederationStatus, Name: "Federation.Status", Where: AnyServer, Repeatable: true, Resource: OperatorResource, Rights: Whole},

	{ID: FederationLeave, Name: "Federation.Leave", Write: true, Where: AnyServer, LocalOnly: true, Repeatable: true, Resource: OperatorResource, Rights: Whole, Access: acl.Write},

	{ID: SessionList, Name: "Session.List", Repeatable: true, Blocking: true, Resource: SessionResource, Rights: Filtered},
	{ID: SessionGet, Name: "Session.Get", Repeatable: true, Blocking: true, Resource: SessionResource, Rights: Filtered},
	{ID: SessionNode, Name: "Session.Node", Repeatable: true, Blocking: true, Resource: SessionResource, Rights: Filtered},
	{ID: SessionCreate, Name: "Session.Create", Write: true, Where: Leader, Resource: SessionResource, Rights: ByBody},
	{ID: SessionDestroy, Name: "Session.Destroy", Write: true, Where: Leader, Repeatable: true, Resource: SessionResource, Rights: ByBody},
	{ID: SessionRenew, Name: "Session.Renew", Write: true, Where: Leader, Repeatable: true, Resource: SessionResource, Rights: ByBody},

	{ID: AutopilotConfig, Name: "Autopilot.Config", Repeatable: true, Resource: OperatorResource, Rights: Whole},
	{ID: AutopilotSetConfig, Name: "Autopilot.SetConfig", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: AutopilotHealth, Name: "Autopilot.Health", Where: Leader, Repeatable: true, Resource: OperatorResource, Rights: Whole},
	{ID: AutopilotState, Name: "Autopilot.State", Where: Leader, Repeatable: true, Resource: OperatorResource, Rights: Whole},
	{ID: RaftConfiguration, Name: "Raft.Configuration", Repeatable: true, Resource: OperatorResource, Rights: Whole},
	{ID: RaftRemovePeer, Name: "Raft.RemovePeer", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: RaftTransferLeader, Name: "Raft.TransferLeader", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: OperatorUsage, Name: "Operator.Usage", Repeatable: true, Blocking: true, Resource: OperatorResource, Rights: Whole},

	// The rights of a transaction are those of its operations.
	{ID: TxnApply, Name: "Txn.Apply", Write: true, Where: Leader, Resource: KeyResource, Rights: ByBody},
	{ID: TxnRead, Name: "Txn.Read", Repeatable: true, Resource: KeyResource, Rights: Filtered},

	{ID: EventFire, Name: "Event.Fire", Write: true, Where: AnyServer, Repeatable: true, Resource: EventResource, Rights: ByBody},

	{ID: CoordinateUpdate, Name: "Coordinate.Update", Write: true, Where: Leader, Repeatable: true, Resource: NodeResource, Rights: ByBody},
	{ID: CoordinateNodes, Name: "Coordinate.Nodes", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},
	{ID: CoordinateNode, Name: "Coordinate.Node", Repeatable: true, Blocking: true, Resource: NodeResource, Rights: Filtered},
	{ID: CoordinateDatacenters, Name: "Coordinate.Datacenters", Where: AnyServer, LocalOnly: true, Repeatable: true, Resource: NodeResource, Rights: Open},

	{ID: KeyringRings, Name: "Keyring.Rings", Where: AnyServer, LocalOnly: true, Repeatable: true, Resource: KeyringResource, Rights: ByBody},
	{ID: KeyringRing, Name: "Keyring.Ring", Where: AnyServer, Repeatable: true, Resource: KeyringResource, Rights: ByBody},
	{ID: QueryApply, Name: "PreparedQuery.Apply", Write: true, Where: Leader, Resource: QueryResource, Rights: ByBody},
	{ID: QueryGet, Name: "PreparedQuery.Get", Repeatable: true, Blocking: true, Resource: QueryResource, Rights: Filtered},
	{ID: QueryList, Name: "PreparedQuery.List", Repeatable: true, Blocking: true, Resource: QueryResource, Rights: Filtered},
	{ID: QueryExecute, Name: "PreparedQuery.Execute", Repeatable: true, Resource: ServiceResource, Rights: Filtered},
	{ID: QueryExplain, Name: "PreparedQuery.Explain", Repeatable: true, Resource: QueryResource, Rights: ByBody},
	{ID: QueryExecuteHere, Name: "PreparedQuery.ExecuteHere", Repeatable: true, Resource: ServiceResource, Rights: Filtered},
	{ID: ACLResolve, Name: "ACL.Resolve", Repeatable: true, Rights: Open}, // the secret is the right
	{ID: ACLApply, Name: "ACL.Apply", Write: true, Where: Leader, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
	{ID: ACLTokenGet, Name: "ACL.TokenGet", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLTokenSelf, Name: "ACL.TokenSelf", Repeatable: true, Blocking: true, Rights: Open}, // the secret is the right
	{ID: ACLTokenList, Name: "ACL.TokenList", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLPolicyGet, Name: "ACL.PolicyGet", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLPolicyByName, Name: "ACL.PolicyByName", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLPolicyList, Name: "ACL.PolicyList", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLRoleGet, Name: "ACL.RoleGet", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLRoleByName, Name: "ACL.RoleByName", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLRoleList, Name: "ACL.RoleList", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLBindingRuleGet, Name: "ACL.BindingRuleGet", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLBindingRuleList, Name: "ACL.BindingRuleList", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLAuthMethodGet, Name: "ACL.AuthMethodGet", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLAuthMethodList, Name: "ACL.AuthMethodList", Repeatable: true, Blocking: true, Resource: ManagementResource, Rights: Whole},
	// Who logs in has no token yet; who bootstraps cannot have one.
	{ID: ACLBootstrap, Name: "ACL.Bootstrap", Where: Leader, LocalOnly: true, Rights: Open},
	{ID: ACLLogin, Name: "ACL.Login", Where: Leader, Rights: Open},
	{ID: ACLLogout, Name: "ACL.Logout", Where: Leader, Rights: Open}, // of the caller's own token
	{ID: ACLReplicationStatus, Name: "ACL.ReplicationStatus", Where: Leader, Repeatable: true, Rights: Open},
	{ID: ACLAuthorize, Name: "ACL.Authorize", Repeatable: true, Rights: Filtered},
	{ID: ACLTemplates, Name: "ACL.Templates", Where: AnyServer, Repeatable: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLFollow, Name: "ACL.Follow", Where: Leader, Repeatable: true, Blocking: true, Stream: true, Resource: ManagementResource, Rights: ByBody},
	{ID: ACLTrees, Name: "ACL.Trees", Where: Leader, Repeatable: true, Resource: ManagementResource, Rights: ByBody},
	{ID: ACLLeaves, Name: "ACL.Leaves", Where: Leader, Repeatable: true, Resource: ManagementResource, Rights: ByBody},
	{ID: ACLRows, Name: "ACL.Rows", Where: Leader, Repeatable: true, Resource: ManagementResource, Rights: ByBody},
	{ID: ACLReplicationDetail, Name: "ACL.ReplicationDetail", Where: Leader, Repeatable: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLReplicationApprove, Name: "ACL.ReplicationApprove", Write: true, Where: Leader, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
	{ID: ACLUnseen, Name: "ACL.Unseen", Where: Leader, Repeatable: true, Resource: ManagementResource, Rights: Whole},
	{ID: ACLUnseenApply, Name: "ACL.UnseenApply", Write: true, Where: Leader, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
	{ID: ACLUnseenDiscard, Name: "ACL.UnseenDiscard", Write: true, Where: Leader, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
	{ID: ACLReapply, Name: "ACL.Reapply", Write: true, Where: Leader, Repeatable: true, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
	{ID: ACLReplicationUndo, Name: "ACL.ReplicationUndo", Write: true, Where: Leader, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
	{ID: KVFollow, Name: "KV.Follow", Where: Leader, Repeatable: true, Blocking: true, Stream: true, Resource: KeyResource, Rights: ByBody},
	{ID: KVTrees, Name: "KV.Trees", Where: Leader, Repeatable: true, Resource: KeyResource, Rights: ByBody},
	{ID: KVLeaves, Name: "KV.Leaves", Where: Leader, Repeatable: true, Resource: KeyResource, Rights: ByBody},
	{ID: KVRows, Name: "KV.Rows", Where: Leader, Repeatable: true, Resource: KeyResource, Rights: ByBody},
	{ID: KVReplicationDetail, Name: "KV.ReplicationDetail", Where: Leader, Repeatable: true, Resource: OperatorResource, Rights: Whole},
	{ID: KVReplicationApprove, Name: "KV.ReplicationApprove", Write: true, Where: Leader, Resource: OperatorResource, Rights: Whole, Access: acl.Write},
	{ID: SnapshotSave, Name: "Snapshot.Save", Repeatable: true, Stream: true, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
	{ID: SnapshotRestore, Name: "Snapshot.Restore", Write: true, Where: Leader, Stream: true, Resource: ManagementResource, Rights: Whole, Access: acl.Write},
}

// byID has room for the numbers given so far: a request looks its method up at
// every hop.
var byID = func() (t [256]*Method) {
	for i := range methods {
		t[methods[i].ID] = &methods[i]
	}
	return t
}()

// Lookup returns the declaration of a method, or nil for an unknown one (a newer
// agent's): such a call is refused, naming the number.
func Lookup(id MethodID) *Method {
	if int(id) < len(byID) {
		return byID[id]
	}
	return nil
}

// Methods returns all declarations.
func Methods() []Method { return methods[:] }
