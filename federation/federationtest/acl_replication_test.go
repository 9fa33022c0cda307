package federationtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
	"landbridge/federation/node"
)

const rootSecret = "5b1a2c3d-0000-4000-8000-000000000001"

// withACLs turns ACLs on, with east as the primary.
func withACLs(c *node.Config) {
	c.Primary = "east"
	c.ACL = node.ACL{Enabled: true, DefaultPolicy: "allow", DownPolicy: "extend-cache", TokenReplication: true,
		TokenTTL: 30 * time.Second, PolicyTTL: 30 * time.Second, RoleTTL: 30 * time.Second,
		Tokens: node.ACLTokens{Agent: rootSecret, Replication: rootSecret}}
	if c.Datacenter == "east" {
		c.ACL.Tokens.InitialManagement = rootSecret
	}
}

// asRoot calls an agent with the management token.
func asRoot(h *Host, method, path, body string, out any) error {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	r, err := h.Call(context.Background(), method, path+sep+"token="+rootSecret, body)
	if err != nil {
		return err
	}
	if r.Code != http.StatusOK {
		return fmt.Errorf("%s %s of %s: %d: %s", method, path, h.Name, r.Code, r.Body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal([]byte(r.Body), out)
}

func accessor(i int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", i) }

func createToken(h *Host, i int) error {
	return asRoot(h, http.MethodPut, "/v1/acl/token", fmt.Sprintf(`{"AccessorID":%q,"Description":"number %d"}`, accessor(i), i), nil)
}

// accessors are the tokens that a server has itself.
func accessors(h *Host) ([]string, error) {
	var list []struct{ AccessorID string }
	if err := asRoot(h, http.MethodGet, "/v1/acl/tokens?stale", "", &list); err != nil {
		return nil, err
	}
	var ids []string
	for _, t := range list {
		ids = append(ids, t.AccessorID)
	}
	slices.Sort(ids)
	return ids, nil
}

// sameTokens is nil when all running servers of both have the same tokens.
func sameTokens(a, b *Datacenter) func() error {
	return func() error {
		leader := a.Leader()
		if leader == nil {
			return errors.New("no leader")
		}
		want, err := accessors(leader)
		if err != nil {
			return err
		}
		for _, h := range b.Servers() {
			if !h.Running() {
				continue
			}
			if got, err := accessors(h); err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("%s has %d tokens, %s %d (%v)", h.Name, len(got), leader.Name, len(want), err)
			}
		}
		return nil
	}
}

type replicationStatus struct {
	Enabled, Running, Healthy bool
	SourceDatacenter          string
	ReplicationType           string
	ReplicatedTokenIndex      uint64
	Held                      int
	HeldID                    string
	LastErrorMessage          string
}

// A secondary datacenter has the primary's tokens a moment after they were made, goes
// on with them while the link is cut, and has caught up within two seconds after it.
func TestACLReplication(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 80*time.Millisecond)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(10*time.Second, "the first copy", sameTokens(east, west))
		for i := range 40 {
			f.Must(createToken(east.Server(i%3), i))
		}
		f.Await(500*time.Millisecond, "forty tokens", sameTokens(east, west))

		var st replicationStatus
		f.Must(asRoot(west.Followers()[0], http.MethodGet, "/v1/acl/replication", "", &st))
		if !st.Enabled || !st.Running || st.SourceDatacenter != "east" || st.ReplicationType != "tokens" || st.ReplicatedTokenIndex == 0 {
			t.Errorf("status %+v", st)
		}
		st = replicationStatus{}
		f.Must(asRoot(east.Server(0), http.MethodGet, "/v1/acl/replication", "", &st))
		if st != (replicationStatus{}) {
			t.Errorf("the primary's status %+v", st)
		}

		f.Partition(east, west)
		for i := range 40 {
			f.Must(createToken(east.Server(i%3), 1000+i))
			f.Must(asRoot(east.Server(i%3), http.MethodDelete, "/v1/acl/token/"+accessor(i), "", nil))
			time.Sleep(500 * time.Millisecond)
		}
		f.Must(asRoot(west.Server(0), http.MethodGet, "/v1/acl/token/"+accessor(5), "", nil))
		f.Heal(east, west)
		took := f.Await(2*time.Second, "equal after the cut", sameTokens(east, west))
		t.Logf("equal %s after the link was back", took)
		f.Must(asRoot(west.Server(1), http.MethodGet, "/v1/internal/acl/replication", "", &st))
		if st.Held != 0 {
			t.Errorf("held after a cut: %+v", st)
		}
	}, DC("east", 3).Edit(withACLs), DC("west", 3).Edit(withACLs))
}

// Leaders of both sides are lost again and again (ACL_KILLS): nothing is, and nothing
// comes back.
func TestACLReplicationLeaderKills(t *testing.T) {
	kills := 4
	if n, err := strconv.Atoi(os.Getenv("ACL_KILLS")); err == nil {
		kills = n
	}
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 80*time.Millisecond)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(10*time.Second, "the first copy", sameTokens(east, west))
		for round := range kills {
			dc := []*Datacenter{east, west}[round%2]
			gone := dc.Leader()
			for i := range 5 {
				f.Must(createToken(east.Leader(), 100*round+i))
			}
			gone.Crash()
			dc.AwaitLeader(15 * time.Second)
			for i := range 5 {
				f.Must(createToken(east.Leader(), 100*round+50+i))
			}
			for i := range 3 {
				f.Must(asRoot(east.Leader(), http.MethodDelete, "/v1/acl/token/"+accessor(100*round+i), "", nil))
			}
			f.Await(10*time.Second, "equal after a leader was lost", sameTokens(east, west))
			gone.Restart()
			f.Await(20*time.Second, "equal with the lost server", sameTokens(east, west))
		}
		var st replicationStatus
		f.Must(asRoot(west.Leader(), http.MethodGet, "/v1/internal/acl/replication", "", &st))
		if st.Held != 0 || !st.Healthy {
			t.Errorf("status %+v", st)
		}
	}, DC("east", 3).Edit(withACLs), DC("west", 3).Edit(withACLs))
}

// The primary is restored to a snapshot of when it had no tokens: none is lost in the
// secondary before somebody approves.
func TestACLReplicationFence(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 80*time.Millisecond)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(10*time.Second, "the first copy", sameTokens(east, west))
		r, err := east.Leader().Call(context.Background(), http.MethodGet, "/v1/snapshot?token="+rootSecret, "")
		f.Must(err)
		for i := range 30 {
			f.Must(createToken(east.Leader(), i))
		}
		f.Await(time.Second, "thirty tokens", sameTokens(east, west))
		f.Must(asRoot(east.Leader(), http.MethodPut, "/v1/snapshot", r.Body, nil))
		var st replicationStatus
		f.Await(5*time.Second, "the alarm", func() error {
			if err := asRoot(west.Server(0), http.MethodGet, "/v1/internal/acl/replication", "", &st); err != nil || st.Held != 30 || st.Healthy {
				return fmt.Errorf("status %+v: %v", st, err)
			}
			return nil
		})
		time.Sleep(time.Minute)
		if ids, err := accessors(west.Server(1)); err != nil || !slices.Contains(ids, accessor(7)) {
			t.Fatalf("%d tokens left (%v)", len(ids), err)
		}
		f.Must(asRoot(west.Server(0), http.MethodPut, "/v1/internal/acl/replication/approve?id="+st.HeldID, "", nil))
		f.Await(5*time.Second, "equal once approved", sameTokens(east, west))
		var undone struct{ Restored int }
		f.Must(asRoot(west.Server(0), http.MethodPut, "/v1/internal/acl/replication/undo?since=10m", "", &undone))
		if undone.Restored != 30 {
			t.Errorf("undone %+v", undone)
		}
	}, DC("east", 3).Edit(withACLs), DC("west", 3).Edit(withACLs))
}

// A secondary that keeps hashes recognises tokens, with a replication token that may
// only read, and has no secret to show but to who knows it.
func TestACLReplicationHashed(t *testing.T) {
	const reader = "5b1a2c3d-0000-4000-8000-0000000000aa"
	hashed := func(c *node.Config) {
		withACLs(c)
		c.ACL.HashedSecrets = true
		c.ACL.Tokens.Replication = reader
	}
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Must(asRoot(east.Leader(), http.MethodPut, "/v1/acl/policy", `{"Name":"reader","Rules":"acl = \"read\""}`, nil))
		f.Must(asRoot(east.Leader(), http.MethodPut, "/v1/acl/token", fmt.Sprintf(`{"SecretID":%q,"Policies":[{"Name":"reader"}]}`, reader), nil))
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(10*time.Second, "the first copy", sameTokens(east, west))
		f.Must(createToken(east.Leader(), 1))
		f.Await(time.Second, "one more", sameTokens(east, west))
		var list []struct{ AccessorID, SecretID string }
		f.Must(asRoot(west.Leader(), http.MethodGet, "/v1/acl/tokens", "", &list))
		for _, k := range list {
			if k.SecretID != "<hidden>" && k.SecretID != "anonymous" {
				t.Errorf("the secret of %s is here: %s", k.AccessorID, k.SecretID)
			}
		}
		var self struct{ SecretID string }
		f.Must(asRoot(west.Leader(), http.MethodGet, "/v1/acl/token/self", "", &self))
		if self.SecretID != rootSecret {
			t.Errorf("self: %+v", self)
		}
		// A global token is changed where its secret is.
		f.Must(asRoot(west.Leader(), http.MethodPut, "/v1/acl/token/"+accessor(1), fmt.Sprintf(`{"AccessorID":%q,"SecretID":"<hidden>","Description":"changed"}`, accessor(1)), nil))
		f.Must(asRoot(east.Leader(), http.MethodGet, "/v1/acl/token/"+accessor(1), "", &self))
		if self.SecretID == "" {
			t.Error("a change by way of the secondary took the secret away")
		}
	}, DC("east", 1).Edit(withACLs), DC("west", 1).Edit(hashed))
}

// keysBelow are the keys of a server below a prefix, without it, with their values.
func keysBelow(h *Host, prefix string) (map[string]string, error) {
	r, err := h.Call(context.Background(), http.MethodGet, "/v1/kv/"+prefix+"?recurse&stale&token="+rootSecret, "")
	if err != nil || r.Code == http.StatusNotFound {
		return nil, err
	}
	var list []struct{ Key, Value string }
	err = json.Unmarshal([]byte(r.Body), &list)
	m := map[string]string{}
	for _, e := range list {
		m[strings.TrimPrefix(e.Key, prefix)] = e.Value
	}
	return m, err
}

// Keys are copied to where the configuration says, without those it leaves out, while
// leaders of both sides are lost, with the rights of the replication token.
func TestKeyReplication(t *testing.T) {
	copies := func(c *node.Config) {
		withACLs(c)
		c.KVReplication = []node.KVCopy{{Source: "east", Prefix: "app/", Target: "copy/", Exclude: []string{"app/secret/"}}}
	}
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Slow(east, west, 80*time.Millisecond)
		put := func(key, value string) {
			t.Helper()
			f.Must(asRoot(east.Leader(), http.MethodPut, "/v1/kv/"+key, value, nil))
		}
		same := func() error {
			for _, h := range west.Servers() {
				if !h.Running() {
					continue
				}
				want, err := keysBelow(east.Leader(), "app/")
				if err != nil {
					return err
				}
				maps.DeleteFunc(want, func(k, _ string) bool { return strings.HasPrefix(k, "secret/") })
				if got, err := keysBelow(h, "copy/"); err != nil || !maps.Equal(got, want) {
					return fmt.Errorf("%s has %d keys, not %d: %v", h.Name, len(got), len(want), err)
				}
			}
			return nil
		}
		put("app/secret/a", "stays")
		for i := range 50 {
			put(fmt.Sprintf("app/%d", i), "first")
		}
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Await(15*time.Second, "the first copy", same)
		put("app/1", "second")
		f.Await(500*time.Millisecond, "a change", same)
		for round := range 4 {
			gone := []*Datacenter{east, west}[round%2].Leader()
			gone.Crash()
			[]*Datacenter{east, west}[round%2].AwaitLeader(15 * time.Second)
			for i := range 20 {
				put(fmt.Sprintf("app/%d/%d", round, i), "new")
				f.Must(asRoot(east.Leader(), http.MethodDelete, fmt.Sprintf("/v1/kv/app/%d", 12*round+i%12), "", nil))
			}
			f.Await(15*time.Second, "equal after a leader was lost", same)
			gone.Restart()
			f.Await(20*time.Second, "equal with the lost server", same)
		}
		var st []struct {
			SourceDatacenter string
			Held             int
			Healthy          bool
		}
		f.Must(asRoot(west.Followers()[0], http.MethodGet, "/v1/internal/kv/replication", "", &st))
		if len(st) != 1 || st[0].SourceDatacenter != "east" || st[0].Held != 0 || !st[0].Healthy {
			t.Errorf("status %+v", st)
		}
		// A restart of all servers of the source loses its log: it is compared.
		for _, h := range east.Servers() {
			h.Crash()
		}
		for _, h := range east.Servers() {
			h.Restart()
		}
		east.AwaitLeader(20 * time.Second)
		put("app/after", "new")
		f.Await(30*time.Second, "equal after the source was restarted", same)
	}, DC("east", 3).Edit(withACLs), DC("west", 3).Edit(copies))
}
