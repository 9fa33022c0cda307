package endpoint

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// AuditLine is what is told of a write of access control, and of any request that was
// refused for lack of rights, a line of JSON each: who did what to which record, and
// whether it was done. No secret is in it.
type AuditLine struct {
	Time       time.Time
	Datacenter string // that the request ran in
	Node       string // the server that ran it
	Operation  string // create, update, delete, clone, bootstrap, login, logout, approve-deletions, undo-deletions; request: any other
	Kind       string `json:",omitempty"` // token, policy, role, ...; of a request its method
	ID         string `json:",omitempty"` // AccessorID or ID, after a write also of what is new
	Name       string `json:",omitempty"`
	Accessor   string // of the token that asked; the anonymous token's if none did, "" if it is nobody's
	Agent      string `json:",omitempty"` // that passed the request on, if another
	From       string `json:",omitempty"` // datacenter that the request came from, if another
	OK         bool
	Error      string `json:",omitempty"`
	Count      int    `json:",omitempty"` // how many more like those just told failed
}

// audit tells of a write that was tried. A line that cannot be kept is an error in the
// log: the write has happened.
func (a *access) audit(req *rpc.Request, line AuditLine, resp *rpc.Response, err error) {
	if a.Audit == nil {
		return
	}
	if req.Bearer != nil {
		line.Accessor = req.Bearer.AccessorID
	}
	if line.Agent = req.Peer; req.SourceDC != a.set.cfg.Datacenter {
		line.From = req.SourceDC
	}
	line.OK = err == nil
	if err != nil {
		line.Error = err.Error()
		if !a.failures.told(failure{line.Accessor, line.Operation, line.Kind}, a.tellFailures) {
			return
		}
	}
	if resp != nil && line.ID == "" { // the record as it is now
		var r struct{ AccessorID, ID, Name string }
		if json.Unmarshal(resp.Body, &r) == nil {
			line.ID, line.Name = r.AccessorID, r.Name
			if line.ID == "" {
				line.ID = r.ID
			}
		}
	}
	a.tell(line)
}

func (a *access) tell(line AuditLine) {
	line.Time, line.Datacenter, line.Node = time.Now().UTC(), a.set.cfg.Datacenter, a.Node
	text, err := json.Marshal(line)
	if err == nil {
		err = a.Audit(append(text, '\n'))
	}
	if err != nil {
		a.set.cfg.Logger.Error("the audit log lacks a line", "operation", line.Operation, "accessor", line.Accessor, "err", err)
	}
}

// refused tells of a request, or a part of one, that who has no right to; who is nil
// for a secret that is nobody's. Errors of other kinds are none of its business.
func (s *Set) refused(req *rpc.Request, who *acl.Bearer, err error) {
	if a := s.access.Load(); a != nil && store.KindOf(err) == store.KindPermissionDenied {
		own := *req
		own.Bearer = who
		a.audit(&own, AuditLine{Operation: "request", Kind: rpc.Lookup(req.Method).Name}, nil, err)
	}
}

// audits is whether a method's own function tells of what it refuses.
func audits(id rpc.MethodID) bool {
	switch id {
	case rpc.ACLApply, rpc.ACLBootstrap, rpc.ACLLogin, rpc.ACLLogout, rpc.ACLReplicationApprove, rpc.ACLReplicationUndo:
		return true
	}
	return false
}

// What fails is told one by one up to a few times a minute for each who and what, and
// counted beyond that: whoever asks for what he may not have, over and over, fills no
// disk, and hides nobody else.
const (
	failureWindow = time.Minute
	failureKinds  = 32 // beyond these, who and what are not told
	failureLines  = 3
)

// failure is what counts together.
type failure struct{ accessor, operation, kind string }

// failures counts what failed in a minute, which begins with the first of them.
type failures struct {
	mu      sync.Mutex
	n       map[failure]int
	beyond  int
	timer   *time.Timer // ends the minute; nil: none has begun
	stopped bool
}

// told is whether a failure is to be told by itself; end is called when the minute is
// over.
func (f *failures) told(k failure, end func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return false
	}
	if f.timer == nil {
		f.n = make(map[failure]int)
		f.timer = time.AfterFunc(failureWindow, end)
	}
	if _, known := f.n[k]; !known && len(f.n) == failureKinds {
		f.beyond++
		return false
	}
	f.n[k]++
	return f.n[k] <= failureLines
}

// take returns what the minute counted, and ends it.
func (f *failures) take(stop bool) (n map[failure]int, beyond int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
	}
	n, beyond = f.n, f.beyond
	f.n, f.beyond, f.timer, f.stopped = nil, 0, nil, stop
	return n, beyond
}

// tellFailures tells of what was only counted.
func (a *access) tellFailures() { a.tellCounts(a.failures.take(false)) }

func (a *access) tellCounts(n map[failure]int, beyond int) {
	for k, n := range n {
		if n > failureLines {
			a.tell(AuditLine{Operation: k.operation, Kind: k.kind, Accessor: k.accessor, Error: "as told before", Count: n - failureLines})
		}
	}
	if beyond > 0 {
		a.tell(AuditLine{Operation: "request", Error: "of more tokens and kinds than are told apart", Count: beyond})
	}
}

// audited is h, told of at every call.
func (s *Set) audited(operation, kind string, h rpc.DoerFunc) rpc.DoerFunc {
	return func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		resp, err := h(ctx, req)
		if a := s.access.Load(); a != nil {
			a.audit(req, AuditLine{Operation: operation, Kind: kind}, resp, err)
		}
		return resp, err
	}
}

// auditLine is a request in an audit's words.
func auditLine(r *store.ACLRequest) AuditLine {
	line := AuditLine{Kind: r.Kind.String()}
	switch r.Op {
	case store.ACLCreate:
		line.Operation = "create"
	case store.ACLUpdate:
		line.Operation = "update"
	case store.ACLClone:
		line.Operation = "clone"
	case store.ACLDelete:
		line.Operation, line.ID = "delete", r.Key
	default:
		line.Operation = "unknown"
	}
	return line
}
