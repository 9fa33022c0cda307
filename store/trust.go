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
