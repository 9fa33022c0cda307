package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"landbridge/federation/trust"
	"landbridge/forwarding/rpc"
	"landbridge/store"
	"landbridge/store/acl"
)

// aclPrimary is the datacenter that owns the shared ACLs: the one that
// primary_datacenter names, our own while that is empty, unless another was promoted.
// Where primary_datacenter is empty the ACLs are our own, and a promotion elsewhere
// changes that only in whose place it was made.
func (s *server) aclPrimary() string {
	cfg := &s.n.cfg
	_, rec := s.state.Trust(nil)
	if rec != nil && rec.Promotion != nil &&
		(cfg.Primary != "" || rec.Primary == cfg.Datacenter || rec.Promotion.Former == cfg.Datacenter || s.state.ACLReplica().Datacenter != "") {
		return rec.Primary
	}
	return cfg.primary()
}

func (s *server) ownsACLs() bool { return s.aclPrimary() == s.n.cfg.Datacenter }

// fencedACL says why shared records are not written in this primary: another datacenter
// took its place.
func (s *server) fencedACL() error {
	if p := s.authority.Fenced(); p != nil {
		return trust.FencedError(s.n.cfg.Datacenter, p)
	}
	return nil
}

// promotable is the state, which knows how far the copy of ACLs is: what is stored says
// where the last record came from.
type promotable struct {
	trust.State
	s *server
}

func (p promotable) ACLReplica() store.ACLReplica {
	r := p.State.ACLReplica()
	if p.s.copy == nil {
		return r
	}
	st := p.s.copy.Status()
	if c := st.Cursor; st.Running && c.Cluster == r.ClusterID && c.History == r.HistoryID {
		r.Position = max(r.Position, store.Index(c.Position))
	}
	return r
}

// copyACLs replicates while this server leads, and another datacenter owns the ACLs. It
// returns when that is another one.
func (s *server) copyACLs(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := s.state.NewWatch()
	defer w.Close()
	s.state.Trust(w)
	from := s.aclPrimary()
	ended := make(chan struct{})
	if from != s.n.cfg.Datacenter {
		go func() {
			defer close(ended)
			_ = s.copy.Run(ctx) // it ends with ctx only
		}()
	} else {
		close(ended)
	}
	for ctx.Err() == nil && s.aclPrimary() == from {
		select {
		case <-w.C():
			s.state.Trust(w)
		case <-ctx.Done():
		}
	}
	cancel()
	<-ended
	return nil
}

// consents looks up the token that asked for a promotion among our own.
func (s *server) consents(ctx context.Context, accessor string, proves func(secret string) bool) error {
	_, t := s.state.ACLToken(nil, accessor)
	switch {
	case t == nil || t.Expired(time.Now()):
		return fmt.Errorf("token %s, which asked for it, is not known here", accessor)
	case t.SecretID == "":
		return fmt.Errorf("the secret of token %s, which asked for it, is not known here", accessor)
	case !proves(t.SecretID):
		return fmt.Errorf("it does not prove that who asked for it had token %s", accessor)
	}
	who, err := s.n.identities.Resolve(ctx, t.SecretID, nil, false)
	if err != nil {
		return err
	}
	if !who.May(acl.Operator, "", acl.Write) || !who.May(acl.ACL, "", acl.Write) {
		return fmt.Errorf("token %s, which asked for it, lacks operator:write or acl:write here", accessor)
	}
	return nil
}

// promotionPlan is what is known before a promotion, for operators.
type promotionPlan struct {
	Datacenter, Primary string
	Term                uint64
	Refused             string `json:",omitempty"` // why this datacenter cannot be promoted at all
	PrimaryAnswers      bool
	PrimaryError        string `json:",omitempty"`
	Copy                string // of ACLs: none, policies, tokens or hashed
	Position            uint64
	LastSuccess         time.Time
	LagSeconds          float64
	Held                int
	TokensWithoutSecret int
	Datacenters         []string // of the federation
	Root                string   // id of the one that is replaced
}

// planPromotion is Trust.PromotionPlan, at the leader.
func (s *server) planPromotion(ctx context.Context, _ *rpc.Request) (*rpc.Response, error) {
	_, rec := s.state.Trust(nil)
	if rec == nil || len(rec.Roots) == 0 || !s.raft.IsLeader() {
		return nil, store.ErrNoLeader
	}
	p := promotionPlan{Datacenter: s.n.cfg.Datacenter, Primary: rec.Primary, Term: trust.TermOf(rec), Copy: "none", Root: rec.Roots[0].ID}
	for i := range rec.Datacenters {
		p.Datacenters = append(p.Datacenters, rec.Datacenters[i].Name)
	}
	if err := s.authority.Promotable(rec); err != nil {
		p.Refused = err.Error()
	} else if rec.Primary != p.Datacenter {
		if err := s.authority.PrimaryAnswers(ctx, rec.Primary); err != nil {
			p.PrimaryError = err.Error()
		} else {
			p.PrimaryAnswers = true
		}
	}
	if s.copy != nil && !s.ownsACLs() {
		st := s.copy.Status()
		p.Copy = s.copy.Type()
		if s.n.cfg.ACL.HashedSecrets {
			p.Copy = "hashed"
		}
		p.Position, p.LastSuccess, p.Held = st.Cursor.Position, st.LastSuccess.UTC(), len(st.Held)
		p.LagSeconds = st.Lag(time.Now()).Seconds()
		_, tokens := s.state.ACLTokens(nil)
		for _, t := range tokens {
			if t.SecretID == "" {
				p.TokensWithoutSecret++
			}
		}
	}
	body, err := json.Marshal(&p)
	return &rpc.Response{KnownLeader: true, Body: body}, err
}

// promote is Trust.Promote, which also wants a copy of the ACLs where there are any.
func (s *server) promote(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	if s.copy != nil && !s.ownsACLs() && s.state.ACLReplica().ClusterID == "" {
		return nil, store.Errorf(store.KindConflict, "datacenter %s has no complete copy of the ACLs of %s yet: as the primary it would know none of the federation's tokens", s.n.cfg.Datacenter, s.aclPrimary())
	}
	return s.authority.PromoteHandler(ctx, req)
}
