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
	ModifyIndex Index
}

// TrustRoot is a root certificate of the federation.
type TrustRoot struct {
	ID           string // lower-case hex SHA-256 of DER
	DER          []byte
	FederationID string
	CreatedUnix  int64 // seconds; decides between two joins at once
	Active       bool
}

// TrustDatacenter records who owns a datacenter's name in the federation.
type TrustDatacenter struct {
	Name      string
	ClusterID string
	// KeyHash is the lower-case hex SHA-256 of the public key (SPKI) of the last
	// intermediate signed for it: another datacenter may vouch for a known name
	// only with that same key.
	KeyHash string
}

// TrustCommand is the payload of CmdTrust: it replaces the record if the stored
// ModifyIndex equals Trust.ModifyIndex (0: only if there is none).
type TrustCommand struct {
	Trust Trust
}
