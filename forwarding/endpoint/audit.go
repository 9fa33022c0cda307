package endpoint

import (
	"context"
	"encoding/json"
	"time"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

// AuditLine is what is told of a write of access control, a line of JSON each: who
// did what to which record, and whether it was done. No secret is in it.
type AuditLine struct {
	Time       time.Time
	Datacenter string // that the write ran in
	Node       string // the server that ran it
	Operation  string // create, update, delete, clone, bootstrap, login, logout, approve-deletions, undo-deletions
	Kind       string `json:",omitempty"` // token, policy, role, ...
	ID         string `json:",omitempty"` // AccessorID or ID, after a write also of what is new
	Name       string `json:",omitempty"`
	Accessor   string // of the token that asked; the anonymous token's if none did
	From       string `json:",omitempty"` // datacenter that the request came from, if another
	OK         bool
	Error      string `json:",omitempty"`
}

// audit tells of a write that was tried. A line that cannot be kept is an error in the
// log: the write has happened.
func (a *access) audit(req *rpc.Request, line AuditLine, resp *rpc.Response, err error) {
	if a.Audit == nil {
		return
	}
	line.Time, line.Datacenter, line.Node = time.Now().UTC(), a.set.cfg.Datacenter, a.Node
	if req.Bearer != nil {
		line.Accessor = req.Bearer.AccessorID
	}
	if req.SourceDC != line.Datacenter {
		line.From = req.SourceDC
	}
	line.OK = err == nil
	if err != nil {
		line.Error = err.Error()
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
	text, jsonErr := json.Marshal(line)
	if jsonErr == nil {
		jsonErr = a.Audit(append(text, '\n'))
	}
	if jsonErr != nil {
		a.set.cfg.Logger.Error("a write of access control could not be told to the audit log", "operation", line.Operation, "accessor", line.Accessor, "err", jsonErr)
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
