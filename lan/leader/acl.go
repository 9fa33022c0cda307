package leader

import (
	"context"
	"fmt"
	"time"

	"landbridge/store"
	"landbridge/store/acl"
)

// ACL is what a leader does for access control.
type ACL struct {
	// Primary: this datacenter owns the ACLs. Others get theirs from it. It is asked
	// anew at each use.
	Primary func() bool
	// InitialManagement is the secret of the first token; "" waits for a bootstrap.
	InitialManagement string
}

const (
	// expireBatch is how many tokens one command ends.
	expireBatch = 256
	// expirePause is between two looks at the tokens: those that expire together are
	// deleted together. Nobody waits for it, for an expired token gives no rights.
	expirePause = time.Second
)

// runACL makes what every datacenter with ACLs has, and then deletes tokens whose
// time is over.
func (l *Leader) runACL(ctx context.Context) {
	if l.cfg.ACL.Primary() && !l.until(ctx, Task{"access control", l.establishACL}) {
		return
	}
	w := l.cfg.State.NewWatch()
	defer w.Close()
	for {
		at, ok := l.cfg.State.ACLExpiry(w)
		wait := time.Hour
		if ok {
			wait = time.Until(at)
		}
		if wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-w.C():
			case <-t.C:
			}
			t.Stop()
		} else if err := l.expireTokens(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Logger.Warn("expired tokens not deleted, will retry", "err", err)
		}
		if !sleep(ctx, expirePause) {
			return
		}
	}
}

// expireTokens deletes what has expired. The primary's tokens are the primary's to
// delete.
func (l *Leader) expireTokens(ctx context.Context) error {
	for {
		list := l.cfg.State.ACLExpired(time.Now(), expireBatch, !l.cfg.ACL.Primary())
		if len(list) == 0 {
			return nil
		}
		var cmd store.ACLCommand
		for _, t := range list {
			cmd.Changes = append(cmd.Changes, store.ACLChange{Op: store.ACLExpire, Kind: store.ACLTokens, Key: t.AccessorID})
		}
		res, err := l.apply(ctx, store.CmdACL, cmd.AppendWire(nil))
		if err != nil {
			return err
		}
		if !res.OK {
			return nil // our clock is ahead of the log's: later
		}
		l.metrics.expired.Add(float64(len(list)))
		l.cfg.Logger.Info("expired tokens deleted", "count", len(list))
	}
}

// establishACL writes the built-in policies and tokens that are not there. The
// rules of the policies follow this version; their names and descriptions are left
// as an operator may have changed them.
func (l *Leader) establishACL(ctx context.Context) error {
	st := l.cfg.State
	var cmd store.ACLCommand
	policy := func(p *store.ACLPolicy) {
		_, old := st.ACLPolicy(nil, p.ID)
		switch {
		case old == nil:
			cmd.Changes = append(cmd.Changes, store.SetACL(store.ACLCreate, p))
		case old.Rules != p.Rules:
			p.Name, p.Description = old.Name, old.Description
			cmd.Changes = append(cmd.Changes, store.SetACL(store.ACLUpdate, p))
		}
	}
	policy(&store.ACLPolicy{ID: store.ManagementPolicyID, Name: store.ManagementPolicyName, Rules: acl.GlobalManagement,
		Description: "A built-in policy that grants read and write access to all Consul features"})
	policy(&store.ACLPolicy{ID: store.ReadOnlyPolicyID, Name: store.ReadOnlyPolicyName, Rules: acl.GlobalReadOnly,
		Description: "A built-in policy that grants read access to all Consul features"})
	if _, t := st.ACLToken(nil, store.AnonymousAccessor); t == nil {
		t := &store.ACLToken{AccessorID: store.AnonymousAccessor, SecretID: store.AnonymousSecret, Description: "Anonymous Token", CreateTime: time.Now().UTC()}
		cmd.Changes = append(cmd.Changes, store.SetACL(store.ACLCreate, t))
	}
	if len(cmd.Changes) > 0 {
		if _, err := l.apply(ctx, store.CmdACL, cmd.AppendWire(nil)); err != nil {
			return fmt.Errorf("write the built-in ACL records: %w", err)
		}
	}
	return l.initialManagement(ctx)
}

// initialManagement makes the configured first token, which counts as a bootstrap.
func (l *Leader) initialManagement(ctx context.Context) error {
	secret := l.cfg.ACL.InitialManagement
	if secret == "" {
		return nil
	}
	if _, t := l.cfg.State.ACLTokenBySecret(nil, secret); t != nil {
		return nil
	}
	t := store.ManagementToken(newUUID(), secret, "Initial Management Token", time.Now())
	if at, _ := l.cfg.State.ACLBootstrapped(); at == 0 {
		cmd := store.ACLBootstrapCommand{Token: t}
		_, err := l.apply(ctx, store.CmdACLBootstrap, cmd.AppendWire(nil))
		return err
	}
	cmd := store.ACLCommand{Changes: []store.ACLChange{store.SetACL(store.ACLCreate, t)}}
	_, err := l.apply(ctx, store.CmdACL, cmd.AppendWire(nil))
	return err
}
