package leader

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
	"landbridge/store/acl"
	"landbridge/store/state"
)

// applier applies commands at once, at the time of the bubble.
type applier struct {
	Consensus
	st *state.Store
}

func (a applier) Apply(_ context.Context, cmd store.Command) (store.Result, error) {
	cmd.UnixNano = time.Now().UnixNano()
	var res [1]store.Result
	a.st.Apply([]store.Command{cmd}, res[:])
	return res[0], nil
}

// The leader makes what every primary has, once, and ends tokens at their time; a
// secondary's leader ends its own tokens only.
func TestACLDuties(t *testing.T) {
	for _, primary := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			st := state.New()
			l := &Leader{metrics: newMetrics(nil), cfg: Config{State: st, Consensus: applier{st: st}, Logger: slog.New(slog.DiscardHandler),
				ACL: &ACL{Primary: func() bool { return primary }, InitialManagement: "the first secret"}}}
			lead := func() (stop func()) {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { l.runACL(ctx); close(done) }()
				synctest.Wait()
				return func() { cancel(); <-done }
			}
			stop := lead()
			_, first := st.ACLTokenBySecret(nil, "the first secret")
			_, anonymous := st.ACLTokenBySecret(nil, store.AnonymousSecret)
			_, management := st.ACLPolicy(nil, store.ManagementPolicyID)
			at, _ := st.ACLBootstrapped()
			if made := first != nil && anonymous != nil && management != nil && at != 0; made != primary {
				t.Fatalf("primary %v: built-in records made: %v", primary, made)
			}
			stop()
			index := st.Index()
			stop = lead() // another leadership finds all there
			defer func() { stop() }()
			if st.Index() != index {
				t.Errorf("primary %v: a second leadership wrote %d commands", primary, st.Index()-index)
			}
			for name, local := range map[string]bool{"global": false, "local": true} {
				tok := &store.ACLToken{AccessorID: name, SecretID: name, Local: local, ExpirationTime: time.Now().Add(90 * time.Second)}
				cmd := store.ACLCommand{Changes: []store.ACLChange{store.SetACL(store.ACLCreate, tok)}}
				if res, _ := l.cfg.Consensus.Apply(t.Context(), store.Command{Kind: store.CmdACL, Payload: cmd.AppendWire(nil)}); res.Err != nil {
					t.Fatal(res.Err)
				}
			}
			time.Sleep(89 * time.Second)
			synctest.Wait()
			there := func(name string) bool { _, tok := st.ACLToken(nil, name); return tok != nil }
			if !there("local") || !there("global") {
				t.Error("a token ended before its time")
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if there("local") || there("global") == primary {
				t.Errorf("primary %v: after their time local %v, global %v", primary, there("local"), there("global"))
			}
			if _, p := st.ACLPolicy(nil, store.ManagementPolicyID); primary && p.Rules != acl.GlobalManagement {
				t.Error("the management policy has other rules")
			}
		})
	}
}
