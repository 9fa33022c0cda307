package store

import (
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// PreparedQuery is a stored question for the healthy instances of a service
// (spec http-query-event-coordinate 1). Names compare case-insensitively.
// Immutable once published by the state store.
type PreparedQuery struct {
	ID          string // UUID
	Name        string // "" only with a session, or for the template that matches every name
	Session     string // the query ends with it, or ""
	Token       string // secret it executes with, or "": the caller's. Never logged
	Template    QueryTemplate
	Service     QueryService
	TTL         string // of DNS answers: a duration, or "": dns_config decides
	CreateIndex Index
	ModifyIndex Index

	json     atomic.Pointer[[]byte]
	compiled atomic.Pointer[regexp.Regexp] // of Template.Regexp, by the first Render
}

// QueryTemplate makes a query answer for all names that begin with its own.
type QueryTemplate struct {
	Type            string // NamePrefixMatch, or "": not a template
	Regexp          string // what match(N) refers to
	RemoveEmptyTags bool   // drop tags that are empty once interpolated
}

// NamePrefixMatch is the only type of template.
const NamePrefixMatch = "name_prefix_match"

// MaxTemplateName bounds a template's name: a name that is looked up is compared
// with templates of every length up to it.
const MaxTemplateName = 1024

// QueryService says which instances a query is for.
type QueryService struct {
	Service        string
	Failover       QueryFailover
	OnlyPassing    bool     // leave out instances with a warning too
	IgnoreCheckIDs []string // checks that do not count
	Near           string   // node name, QueryNearAgent or QueryNearIP
	Tags           []string // all present; with a leading ! absent
	NodeMeta       map[string]string
	ServiceMeta    map[string]string
	Connect        bool   // instances that speak for the service in the mesh
	Peer           string // a peering to import from: there are none, so it finds nothing
}

// Values of QueryService.Near that are no node names.
const (
	QueryNearAgent = "_agent" // the agent that was asked
	QueryNearIP    = "_ip"    // the node with the asker's address
)

// QueryFailover says which datacenters are asked when the own has no instance.
type QueryFailover struct {
	SkipLocalDatacenter bool
	NearestN            int      // that many other datacenters, nearest first
	Datacenters         []string // then these, unless asked already
	Targets             []QueryTarget
}

// QueryTarget is one step of a failover: a datacenter or a peering.
type QueryTarget struct {
	Datacenter string
	Peer       string
}

// QueryOp is what a QueryCommand does. Numbers are on disk and on the wire.
type QueryOp uint8

const (
	QueryCreate QueryOp = 1
	QueryUpdate QueryOp = 2 // replaces the whole definition
	QueryDelete QueryOp = 3 // Query.ID alone counts
)

// QueryCommand is the payload of CmdQuery.
type QueryCommand struct {
	Op    QueryOp
	Query PreparedQuery
}

// QueryExecute holds the arguments of an execution beside Query.Name and
// Query.Near: what the asker wants, and where it is.
type QueryExecute struct {
	Limit   int    // at most so many instances; 0: all
	Connect bool   // as if the query's Connect were set
	Agent   string // node of the agent that was asked, for QueryNearAgent
	Source  string // the asker's IP address, for QueryNearIP
	// Query is the interpolated query that another datacenter executes for us.
	Query *PreparedQuery
}

// QueryResult is the answer of an execution in the records representation.
type QueryResult struct {
	Service    string
	Nodes      []ServiceInstance
	TTL        string
	Datacenter string // where the instances are
	Failovers  int    // how many datacenters beyond the first were asked
	BySource   bool   // sorted by the asker's address: the answer is for it alone
}

// IsTemplate reports whether the query is a template.
func (q *PreparedQuery) IsTemplate() bool { return q.Template.Type != "" }

// HiddenToken is what readers without rights are shown in place of a token.
const HiddenToken = "<hidden>"

// Prepare refuses what is wrong with a definition whatever the state holds. The
// leader calls it before a command goes to the log. Errors are of KindInvalid.
func (c *QueryCommand) Prepare() error {
	q := &c.Query
	if c.Op == QueryDelete {
		return nil
	}
	if q.Name == "" && !q.IsTemplate() && q.Session == "" {
		return badQuery("Must be bound to a session")
	}
	if q.IsTemplate() && len(q.Name) > MaxTemplateName {
		return badQuery("the Name of a template has at most %d bytes, not %d", MaxTemplateName, len(q.Name))
	}
	if q.Token == HiddenToken {
		return badQuery("Bad Token '%s', it looks like a query definition with a redacted token was submitted", q.Token)
	}
	s := &q.Service
	if s.Service == "" {
		return badQuery("Must provide a Service name to query")
	}
	f := &s.Failover
	if f.NearestN < 0 {
		return badQuery("Bad NearestN '%d', must be >= 0", f.NearestN)
	}
	if len(f.Targets) > 0 && (f.NearestN > 0 || len(f.Datacenters) > 0) {
		return badQuery("Targets cannot be populated with NearestN or Datacenters")
	}
	for _, t := range f.Targets {
		if (t.Datacenter == "") == (t.Peer == "") {
			return badQuery("each of Targets names either a Datacenter or a Peer")
		}
	}
	if _, err := queryTTL(q.TTL); err != nil {
		return badQuery("Bad DNS TTL '%s': %w", q.TTL, err)
	}
	if ttl, _ := queryTTL(q.TTL); ttl < 0 {
		return badQuery("DNS TTL '%s' must be >= 0", q.TTL)
	}
	return q.CheckTemplate()
}

func badQuery(format string, args ...any) error {
	return Errorf(KindInvalid, "Invalid prepared query: "+format, args...)
}

func queryTTL(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	return time.ParseDuration(s)
}

// DNSTTL returns the TTL for DNS answers; false if the query sets none.
func (r *QueryResult) DNSTTL() (time.Duration, bool) {
	ttl, err := queryTTL(r.TTL)
	return ttl, err == nil && r.TTL != ""
}

// Clone returns a copy that shares nothing with q.
func (q *PreparedQuery) Clone() *PreparedQuery {
	c := &PreparedQuery{ID: q.ID, Name: q.Name, Session: q.Session, Token: q.Token, Template: q.Template,
		Service: q.Service.clone(), TTL: q.TTL, CreateIndex: q.CreateIndex, ModifyIndex: q.ModifyIndex}
	return c
}

// CheckQueryID says what is wrong with the text of a query's id, in the words
// clients know. Errors are of KindInvalid.
func CheckQueryID(id string) error {
	if len(id) != 36 {
		return Errorf(KindInvalid, "failed prepared query lookup: index error: UUID must be 36 characters")
	}
	if err := checkUUID(id); err != nil {
		return Errorf(KindInvalid, "failed prepared query lookup: index error: %w", err)
	}
	return nil
}

// foldedCut cuts full behind the part that folds to the lower-case prefix, which
// it is known to begin with: folding may change the length of a letter.
func foldedCut(full, prefix string) string {
	folded := 0
	for i, r := range full {
		if folded >= len(prefix) {
			return full[i:]
		}
		folded += len(strings.ToLower(string(r)))
	}
	return ""
}
