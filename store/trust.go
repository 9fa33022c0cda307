package store

// Trust is a datacenter's share of the federation's identity, kept in its own
// Raft state. Certificates are DER, keys PKCS#8 DER. Keys never appear in logs,
// answers or errors.
type Trust struct {
	FederationID string // UUID of the federation whose root is current
	Primary      string // the datacenter that holds the root key, "" while undecided
	// Roots this datacenter trusts, the current one first. More than one while a
	// join or a rotation is under way.
	Roots []TrustRoot
	// RootKey is held by the primary only.
	RootKey []byte
	// Intermediate is this datacenter's issuing certificate (path length 0, DNS
	// name constraint .<dc>.<domain>) and its key.
	Intermediate    []byte
	IntermediateKey []byte
	// Datacenters that were enrolled, by name; kept by the primary, and copied to
	// the others with each enrolment.
	Datacenters []TrustDatacenter
	// Revision counts the changes of what all datacenters share: roots, datacenters
	// and revocations. The primary counts; the others keep that of their copy.
	Revision uint64
	// Revoked are the servers and datacenters that were evicted.
	Revoked []TrustRevocation
	// Tokens let one datacenter each join; kept by the primary only.
	Tokens []TrustToken
	// RenewedUnix is when an operator asked for new server certificates here; those
	// made before it are replaced.
	RenewedUnix int64
	// Pruned counts the times that a replaced root was dropped although certificates
	// below it were in use: then open connections below it end, too. Shared by all.
	Pruned      uint64
	ModifyIndex Index
	// Promotion made Primary the primary; nil: it was never another one.
	Promotion *Promotion
	// Claim is the promotion of a datacenter that is known to have happened and was
	// not accepted here. In the datacenter that it takes the place of, shared ACLs are
	// not written any more.
	Claim *Promotion
	// Alternates are older certificates of the intermediate's key, below replaced roots
	// that could not certify the current one: shown to those who trust only these.
	Alternates [][]byte
}

// Promotion is the signed record of how a datacenter became the primary. Whoever has
// it can check who made it, and pass it on. It never changes.
type Promotion struct {
	// Term counts promotions in a federation: of two, the higher one holds.
	Term         uint64
	FederationID string
	Primary      string // who was promoted
	Former       string // in whose place
	Unix         int64  // when, in seconds
	// Cluster and History are those of Primary.
	Cluster, History string
	// Root is the DER of the federation's root from then on.
	Root []byte
	// SourceCluster, SourceHistory and SourcePosition say how far Primary had copied
	// the ACLs of Former: what was changed there later, it has not seen. Empty without
	// a copy.
	SourceCluster, SourceHistory string
	SourcePosition               Index
	// Base is Primary's own index: records created up to it are of before.
	Base Index
	// Accessor is of the token that asked for it, and Consent proves to who knows the
	// secret of that token that its holder did. Both are empty without ACLs.
	Accessor string
	Consent  []byte
	// Chain are certificates of Primary's intermediate, and those they lead up to roots
	// by; Signature is of the intermediate's key.
	Chain     [][]byte
	Signature []byte
}

// PromotionCommand is the payload of CmdPromotion. It is a TrustCommand for records
// that have a Promotion or a Claim, and says what follows for ACLs.
type PromotionCommand struct {
	Trust Trust
	// Owns: this datacenter owns the shared ACLs. Replication writes none any more.
	Owns bool
	// Begins is set in the command that makes it the owner: it is refused if replication
	// wrote anything after ReplicaVersion.
	Begins         bool
	ReplicaVersion uint64
}

// TrustRoot is a root certificate of the federation.
type TrustRoot struct {
	ID           string // lower-case hex SHA-256 of DER
	DER          []byte
	FederationID string
	CreatedUnix  int64 // seconds; decides between two joins at once
	Active       bool
	// Cross is the DER of this root's key certified by the root it replaced, for
	// those who trust only that one. Nil for a first root.
	Cross []byte
	// Provisional marks a datacenter's own root from before it joined; only that
	// datacenter trusts it, until its last certificate below it is replaced.
	Provisional bool
}

// TrustDatacenter records who owns a datacenter's name in the federation.
type TrustDatacenter struct {
	Name      string
	ClusterID string
	// KeyHash is the lower-case hex SHA-256 of the public key (SPKI) of the last
	// intermediate signed for it: another datacenter may vouch for a known name
	// only with that same key.
	KeyHash string
	// Root is the id of the root below which all its servers have certificates, as
	// its leader told the primary.
	Root string
}

// TrustRevocation refuses the certificates of a server, or of all servers of a
// datacenter.
type TrustRevocation struct {
	Node       string // "": the whole datacenter
	Datacenter string
	Unix       int64 // when, in seconds
	// LiftedUnix is when it was taken back, 0 while it is in force: certificates
	// made before then stay refused.
	LiftedUnix int64
}

// TrustToken is a token for one join, as the primary knows it: what proves
// possession of its secret, not the secret.
type TrustToken struct {
	ID          string
	Verifier    []byte
	ExpiresUnix int64
	Datacenter  string // who may use it; "": anybody
	// UsedBy and UsedKey are the datacenter that used it, and the hash of the key
	// of the intermediate it was given.
	UsedBy, UsedKey string
}

// TrustCommand is the payload of CmdTrust: it replaces the record if the stored
// ModifyIndex equals Trust.ModifyIndex (0: only if there is none).
type TrustCommand struct {
	Trust Trust
}
