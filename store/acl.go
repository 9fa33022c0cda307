package store

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"
)

// ACLKind names a kind of ACL record. Numbers are in the Raft log and on the
// wire: never reused.
type ACLKind uint8

const (
	ACLTokens       ACLKind = 1
	ACLPolicies     ACLKind = 2
	ACLRoles        ACLKind = 3
	ACLBindingRules ACLKind = 4
	ACLAuthMethods  ACLKind = 5
)

// String returns what people call a record of the kind.
func (k ACLKind) String() string {
	switch k {
	case ACLTokens:
		return "token"
	case ACLPolicies:
		return "policy"
	case ACLRoles:
		return "role"
	case ACLBindingRules:
		return "binding rule"
	case ACLAuthMethods:
		return "auth method"
	}
	return "ACL record of an unknown kind"
}

// What every datacenter with ACLs has (spec acl-rules 5).
const (
	AnonymousAccessor = "00000000-0000-0000-0000-000000000002"
	AnonymousSecret   = "anonymous"

	ManagementPolicyID   = "00000000-0000-0000-0000-000000000001"
	ManagementPolicyName = "global-management"
	ReadOnlyPolicyID     = "00000000-0000-0000-0000-000000000002"
	ReadOnlyPolicyName   = "builtin/global-read-only"

	// BuiltinPrefix begins the names that operators cannot give.
	BuiltinPrefix = "builtin/"
)

// HiddenSecret stands for a secret that the reader may not see.
const HiddenSecret = "<hidden>"

// BuiltinPolicy reports whether a policy cannot be changed, by its id.
func BuiltinPolicy(id string) bool { return id == ManagementPolicyID || id == ReadOnlyPolicyID }

// ACLRecord is one of the five kinds of records below. They are immutable once
// published by the state store.
type ACLRecord interface {
	ACLKind() ACLKind
	// ACLKey is what the record is known by within its kind, as state keys it: an
	// accessor, an id or a name in lower case.
	ACLKey() string
	AppendWire(b []byte) []byte
	DecodeWire(b []byte) error
	// Digest is equal for records that mean the same: all fields but the indexes,
	// the names behind linked ids, and whether a secret is kept or only its hash.
	// Copies of a record in different datacenters have one digest.
	Digest() [sha256.Size]byte
	// Indexes returns CreateIndex and ModifyIndex.
	Indexes() (created, modified Index)
	AppendJSON(b []byte) []byte
}

// NewACLRecord returns an empty record of a kind, nil for an unknown one.
func NewACLRecord(k ACLKind) ACLRecord {
	switch k {
	case ACLTokens:
		return new(ACLToken)
	case ACLPolicies:
		return new(ACLPolicy)
	case ACLRoles:
		return new(ACLRole)
	case ACLBindingRules:
		return new(ACLBindingRule)
	case ACLAuthMethods:
		return new(ACLAuthMethod)
	}
	return nil
}

// ACLLink leads to a policy or role. The id counts; the name is what it was called
// when the record was written, and reads put in the current one.
type ACLLink struct{ ID, Name string }

// ServiceIdentity stands for the rights of an instance of a service.
type ServiceIdentity struct {
	ServiceName string
	Datacenters []string // where it applies; none: everywhere
}

// NodeIdentity stands for the rights of an agent on a node.
type NodeIdentity struct{ NodeName, Datacenter string }

// TemplatedPolicy stands for the rules of a template, rendered with Name.
type TemplatedPolicy struct {
	TemplateID   string
	TemplateName string
	Name         string // the one variable there is; "" for templates without
	Datacenters  []string
}

// ACLGrants is what tokens and roles have in common: where rights come from.
type ACLGrants struct {
	Policies          []ACLLink
	ServiceIdentities []ServiceIdentity
	NodeIdentities    []NodeIdentity
	TemplatedPolicies []TemplatedPolicy
}

// ACLToken lets whoever knows its secret do what its grants and roles say.
type ACLToken struct {
	AccessorID string
	// SecretID is empty where only its hash is kept (acl.replicate_secrets).
	SecretID    string
	SecretHash  [sha256.Size]byte // SHA-256 of the secret; Seal sets it
	Description string
	ACLGrants
	Roles          []ACLLink
	Local          bool      // known in this datacenter only
	AuthMethod     string    // that a login made it with
	ExpirationTime time.Time // zero: never
	CreateTime     time.Time
	CreateIndex    Index
	ModifyIndex    Index

	json   atomic.Pointer[[]byte]
	hidden atomic.Pointer[[]byte]
}

// HashSecret is what a token is found by: neither a map nor a secondary needs to
// hold the secret itself.
func HashSecret(secret string) [sha256.Size]byte {
	var room [64]byte // requests hash theirs: that must cost no garbage
	return sha256.Sum256(append(room[:0], secret...))
}

// Seal sets SecretHash after SecretID.
func (t *ACLToken) Seal() { t.SecretHash = HashSecret(t.SecretID) }

// Expired reports whether the token's time is over at now.
func (t *ACLToken) Expired(now time.Time) bool {
	return !t.ExpirationTime.IsZero() && !now.Before(t.ExpirationTime)
}

// Clone returns a copy that may be changed, apart from what slices hold.
func (t *ACLToken) Clone() *ACLToken {
	return &ACLToken{AccessorID: t.AccessorID, SecretID: t.SecretID, SecretHash: t.SecretHash, Description: t.Description,
		ACLGrants: t.ACLGrants, Roles: t.Roles, Local: t.Local, AuthMethod: t.AuthMethod,
		ExpirationTime: t.ExpirationTime, CreateTime: t.CreateTime, CreateIndex: t.CreateIndex, ModifyIndex: t.ModifyIndex}
}

// ManagementToken returns a new token that may do everything.
func ManagementToken(accessor, secret, description string, now time.Time) *ACLToken {
	t := &ACLToken{AccessorID: accessor, SecretID: secret, Description: description, CreateTime: now.UTC(),
		ACLGrants: ACLGrants{Policies: []ACLLink{{ID: ManagementPolicyID, Name: ManagementPolicyName}}}}
	t.Seal()
	return t
}

// ACLPolicy is a named set of rules.
type ACLPolicy struct {
	ID          string
	Name        string
	Description string
	Rules       string   // HCL or JSON
	Datacenters []string // where it applies; none: everywhere
	CreateIndex Index
	ModifyIndex Index

	json atomic.Pointer[[]byte]
	row  atomic.Pointer[[]byte] // as lists show it
}

// ACLRole is a named set of grants.
type ACLRole struct {
	ID          string
	Name        string
	Description string
	ACLGrants
	CreateIndex Index
	ModifyIndex Index

	json atomic.Pointer[[]byte]
}

// Clone returns a copy that may be changed, apart from what slices hold.
func (r *ACLRole) Clone() *ACLRole {
	return &ACLRole{ID: r.ID, Name: r.Name, Description: r.Description, ACLGrants: r.ACLGrants,
		CreateIndex: r.CreateIndex, ModifyIndex: r.ModifyIndex}
}

// What a binding rule binds to.
const (
	BindService   = "service"
	BindNode      = "node"
	BindRole      = "role"
	BindPolicy    = "policy"
	BindTemplated = "templated-policy"
)

// ACLBindingRule says what a login with an auth method gives.
type ACLBindingRule struct {
	ID          string
	Description string
	AuthMethod  string
	Selector    string // go-bexpr over the method's variables; "" always matches
	BindType    string
	BindName    string // ${variable} is replaced
	BindVars    string // the variable name of a templated policy, replaced likewise
	CreateIndex Index
	ModifyIndex Index

	json atomic.Pointer[[]byte]
}

// Localities of the tokens that an auth method makes.
const (
	LocalityLocal  = "local" // also ""
	LocalityGlobal = "global"
)

// Types of auth methods.
const (
	MethodJWT        = "jwt"
	MethodKubernetes = "kubernetes"
	MethodAWS        = "aws-iam"
)

// ACLAuthMethod trusts somebody else to say who logs in.
type ACLAuthMethod struct {
	Name          string
	Type          string
	DisplayName   string
	Description   string
	MaxTokenTTL   time.Duration // of its tokens; 0: for ever
	TokenLocality string
	Config        json.RawMessage // an object with sorted keys
	CreateIndex   Index
	ModifyIndex   Index

	json atomic.Pointer[[]byte]
	row  atomic.Pointer[[]byte] // as lists show it
}

// Global reports whether the method and its tokens belong to the whole federation.
func (m *ACLAuthMethod) Global() bool { return m.TokenLocality == LocalityGlobal }

// ACLKind and ACLKey are those of ACLRecord.

func (*ACLToken) ACLKind() ACLKind       { return ACLTokens }
func (*ACLPolicy) ACLKind() ACLKind      { return ACLPolicies }
func (*ACLRole) ACLKind() ACLKind        { return ACLRoles }
func (*ACLBindingRule) ACLKind() ACLKind { return ACLBindingRules }
func (*ACLAuthMethod) ACLKind() ACLKind  { return ACLAuthMethods }

func (t *ACLToken) ACLKey() string       { return strings.ToLower(t.AccessorID) }
func (p *ACLPolicy) ACLKey() string      { return strings.ToLower(p.ID) }
func (r *ACLRole) ACLKey() string        { return strings.ToLower(r.ID) }
func (r *ACLBindingRule) ACLKey() string { return strings.ToLower(r.ID) }
func (m *ACLAuthMethod) ACLKey() string  { return strings.ToLower(m.Name) }

func (t *ACLToken) Indexes() (created, modified Index)       { return t.CreateIndex, t.ModifyIndex }
func (p *ACLPolicy) Indexes() (created, modified Index)      { return p.CreateIndex, p.ModifyIndex }
func (r *ACLRole) Indexes() (created, modified Index)        { return r.CreateIndex, r.ModifyIndex }
func (r *ACLBindingRule) Indexes() (created, modified Index) { return r.CreateIndex, r.ModifyIndex }
func (m *ACLAuthMethod) Indexes() (created, modified Index)  { return m.CreateIndex, m.ModifyIndex }
