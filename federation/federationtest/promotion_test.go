package federationtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
	"landbridge/federation/node"
)

// primaryOf is nil once a server of the datacenter takes primary for it, in that term.
func primaryOf(dc *Datacenter, primary string, term int) func() error {
	return slowly(func() error {
		for _, h := range dc.Servers() {
			var st struct {
				Primary   string
				Promotion *struct{ Term int }
			}
			if err := asRoot(h, http.MethodGet, "/v1/internal/federation/ca", "", &st); err != nil {
				return err
			}
			if st.Primary != primary || st.Promotion == nil || st.Promotion.Term != term {
				return fmt.Errorf("%s: primary %s, %+v", h.Name, st.Primary, st.Promotion)
			}
		}
		return nil
	})
}

func promoteDC(h *Host) error {
	return asRoot(h, http.MethodPut, "/v1/internal/federation/promote", `{}`, nil)
}

type unseenList struct {
	Primary, Former string
	Changes         []struct{ Change, ID string }
}

// unseenOf are the unseen changes of a datacenter, each as "change accessor".
func unseenOf(h *Host) (list []string, err error) {
	var u unseenList
	if err := asRoot(h, http.MethodGet, "/v1/internal/federation/unseen", "", &u); err != nil {
		return nil, err
	}
	for _, c := range u.Changes {
		list = append(list, c.Change+" "+strings.TrimSuffix(c.ID, "-0000-4000-8000-000000000000"))
	}
	slices.Sort(list)
	return list, nil
}

func describe(h *Host, i int, text string) error {
	return asRoot(h, http.MethodPut, "/v1/acl/token/"+accessor(i), fmt.Sprintf(`{"AccessorID":%q,"Description":%q}`, accessor(i), text), nil)
}

func descriptionOf(h *Host, i int) (string, error) {
	var t struct{ Description string }
	err := asRoot(h, http.MethodGet, "/v1/acl/token/"+accessor(i)+"?stale", "", &t)
	return t.Description, err
}

// The primary is cut off and writes on; another datacenter is promoted, the third
// follows, and writes go there. When the old primary is back it is fenced, becomes a
// secondary, and lists what the new one never saw, which an operator brings over.
func TestPromote(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west, north := f.DC("east"), f.DC("west"), f.DC("north")
		for _, p := range [][2]*Datacenter{{east, west}, {east, north}, {west, north}} {
			f.Slow(p[0], p[1], 40*time.Millisecond)
		}
		fill(f, east, west, north)
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Must(north.Server(0).Join(east.Server(0)))
		for i := range 20 {
			f.Must(createToken(east.Leader(), i))
		}
		f.Await(20*time.Second, "copies", func() error { return errors.Join(sameTokens(east, west)(), sameTokens(east, north)()) })
		if err := promoteDC(west.Server(0)); err == nil || !strings.Contains(err.Error(), "east answers") {
			t.Fatalf("promoted while the primary answers: %v", err)
		}
		time.Sleep(20 * time.Second)

		rest := Group(append(west.Hosts(), north.Hosts()...))
		f.Partition(east, rest)
		f.Must(createToken(east.Leader(), 100))
		f.Must(describe(east.Leader(), 1, "changed in the east"))
		f.Must(asRoot(east.Leader(), http.MethodDelete, "/v1/acl/token/"+accessor(2), "", nil))
		time.Sleep(30 * time.Second)
		ends := []func(){load(f, west, north.Hosts()...), load(f, north, west.Hosts()...)}
		f.Must(promoteDC(west.Followers()[0]))
		took := f.Await(30*time.Second, "north follows", primaryOf(north, "west", 1))
		t.Logf("north follows %s after the promotion", took)
		f.Must(createToken(north.Server(0), 200)) // it goes to the west
		f.Must(asRoot(west.Leader(), http.MethodDelete, "/v1/acl/token/"+accessor(3), "", nil))
		f.Must(describe(west.Leader(), 4, "changed in the west"))
		f.Await(5*time.Second, "north has the west's", sameTokens(west, north))
		var st replicationStatus
		f.Must(asRoot(north.Leader(), http.MethodGet, "/v1/internal/acl/replication", "", &st))
		if st.SourceDatacenter != "west" || st.Held != 0 {
			t.Errorf("status of north: %+v", st)
		}
		st = replicationStatus{}
		f.Must(asRoot(west.Leader(), http.MethodGet, "/v1/acl/replication", "", &st))
		if st != (replicationStatus{}) {
			t.Errorf("the new primary says that it replicates: %+v", st)
		}
		if r, err := west.Leader().Call(context.Background(), http.MethodPut, "/v1/acl/bootstrap", ""); err != nil || r.Code != http.StatusForbidden {
			t.Errorf("a second bootstrap in the new primary: %+v, %v", r, err)
		}
		if a, err := unseenOf(north.Leader()); err != nil || len(a) > 0 {
			t.Errorf("unseen in the north: %v, %v", a, err)
		}
		for _, end := range ends {
			end()
		}
		// A restart with the old configuration changes nothing.
		for _, h := range north.Servers() {
			h.Stop()
			h.Restart()
		}
		north.AwaitLeader(30 * time.Second)
		f.Await(20*time.Second, "still the west's", primaryOf(north, "west", 1))
		f.Await(30*time.Second, "north is back", slowly(bothWays(west, north)))

		// The old primary is back.
		ends = []func(){load(f, west, north.Hosts()...), load(f, north, west.Hosts()...)}
		f.Heal(east, rest)
		took = f.Await(time.Minute, "east follows", primaryOf(east, "west", 1))
		t.Logf("east follows %s after the link was back", took)
		want := []string{"changed 00000001", "created 00000100", "deleted 00000002"}
		f.Await(20*time.Second, "unseen changes", slowly(func() error {
			got, err := unseenOf(east.Server(0))
			if err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("unseen %v, want %v: %w", got, want, err)
			}
			return nil
		}))
		f.Await(5*time.Second, "the east has the west's", func() error {
			var errs []error
			for i, want := range map[int]string{1: "number 1", 2: "number 2", 4: "changed in the west", 200: "number 200", 100: "number 100"} {
				if got, err := descriptionOf(east.Leader(), i); err != nil || got != want {
					errs = append(errs, fmt.Errorf("token %d of the east: %q, want %q: %w", i, got, want, err))
				}
			}
			if _, err := descriptionOf(east.Leader(), 3); err == nil {
				errs = append(errs, errors.New("token 3, which the west deleted, still works in the east"))
			}
			return errors.Join(errs...)
		})
		f.Must(createToken(east.Server(1), 300))
		if _, err := descriptionOf(west.Leader(), 300); err != nil {
			t.Errorf("a token that was made in the east is not the west's: %v", err)
		}
		// They outlive the leader, and a restart of all.
		for _, h := range east.Servers() {
			h.Crash()
		}
		for _, h := range east.Servers() {
			h.Restart()
		}
		east.AwaitLeader(30 * time.Second)
		f.Await(30*time.Second, "unseen changes after a restart", slowly(func() error {
			got, err := unseenOf(east.Server(0))
			if err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("unseen %v, want %v: %w", got, want, err)
			}
			return nil
		}))
		var done struct {
			Applied int
			Errors  []string
		}
		f.Must(asRoot(east.Server(0), http.MethodPut, "/v1/internal/federation/unseen/settle", `{"All":true}`, &done))
		if done.Applied != 3 || len(done.Errors) > 0 {
			t.Errorf("applied: %+v", done)
		}
		f.Await(5*time.Second, "all have them", func() error {
			got, err := unseenOf(east.Leader())
			if err == nil && len(got) > 0 {
				err = fmt.Errorf("still unseen: %v", got)
			}
			d, derr := descriptionOf(west.Leader(), 1)
			if derr == nil && d != "changed in the east" {
				derr = fmt.Errorf("token 1 of the west: %q", d)
			}
			return errors.Join(err, derr, sameTokens(west, east)(), sameTokens(west, north)())
		})
		f.Await(5*time.Minute, "the old root is gone", slowly(func() error {
			s, err := caOf2(west.Leader())
			if err == nil && len(s.Roots) != 1 {
				err = fmt.Errorf("roots %v, datacenters %v", s.Roots, s.Datacenters)
			}
			return err
		}))
		for _, end := range ends {
			end()
		}
		f.Await(10*time.Second, "all read", slowly(func() error {
			return errors.Join(bothWays(east, west)(), bothWays(east, north)(), bothWays(west, north)())
		}))
	}, DC("east", 3).Edit(withACLs), DC("west", 3).Edit(withACLs), DC("north", 1).Edit(withACLs))
}

func caOf2(h *Host) (s ca, err error) {
	return s, asRoot(h, http.MethodGet, "/v1/internal/federation/ca", "", &s)
}

// The primary is lost with all its data and rebuilt empty: it comes back as a secondary,
// and all tokens are there.
func TestPromoteRebuilt(t *testing.T) {
	primary := "east"
	edit := func(c *node.Config) {
		withACLs(c)
		c.Primary = primary
		if primary != "east" {
			c.ACL.Tokens.InitialManagement = ""
		}
	}
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Must(west.Server(0).Join(east.Server(0)))
		for i := range 10 {
			f.Must(createToken(east.Leader(), i))
		}
		f.Await(20*time.Second, "copies", sameTokens(east, west))
		for _, h := range east.Servers() {
			h.Crash()
			h.Wipe()
		}
		time.Sleep(30 * time.Second)
		f.Must(promoteDC(west.Server(0)))
		if err := asRoot(west.Server(0), http.MethodPut, "/v1/internal/federation/forget", `{"Datacenter":"west"}`, nil); err == nil {
			t.Error("the primary may be forgotten")
		}
		f.Must(asRoot(west.Server(0), http.MethodPut, "/v1/internal/federation/forget", `{"Datacenter":"east"}`, nil))
		// With the old configuration it is told who the primary is.
		for _, h := range east.Servers() {
			h.Restart()
		}
		east.AwaitLeader(30 * time.Second)
		if err := east.Server(0).Join(west.Server(0)); err == nil || !strings.Contains(err.Error(), "promoted in place of east") {
			t.Fatalf("joined with primary_datacenter of before: %v", err)
		}
		primary = "west"
		for _, h := range east.Servers() {
			h.Crash()
			h.Wipe()
			h.Restart()
		}
		east.AwaitLeader(30 * time.Second)
		f.Must(east.Server(0).Join(west.Server(0)))
		f.Await(30*time.Second, "east follows", primaryOf(east, "west", 1))
		f.Await(30*time.Second, "east has all tokens", sameTokens(west, east))
		f.Must(createToken(east.Server(0), 50))
		f.Await(5*time.Second, "one more", sameTokens(west, east))
		var st replicationStatus
		f.Must(asRoot(east.Leader(), http.MethodGet, "/v1/internal/acl/replication", "", &st))
		if !st.Healthy || st.Held != 0 {
			t.Errorf("status %+v", st)
		}
	}, DC("east", 1).Edit(edit), DC("west", 1).Edit(edit))
}

// The leader of the datacenter that is promoted is lost at that moment, whatever became
// of its write: its successor is the primary, or can be promoted.
func TestPromoteLeaderLost(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Must(west.Server(0).Join(east.Server(0)))
		for i := range 5 {
			f.Must(createToken(east.Leader(), i))
		}
		f.Await(20*time.Second, "copies", sameTokens(east, west))
		for _, h := range east.Servers() {
			h.Crash()
		}
		time.Sleep(30 * time.Second)
		gone := west.Leader()
		asked := make(chan error, 1)
		go func() { asked <- promoteDC(west.Followers()[0]) }()
		time.Sleep(5*time.Second + 20*time.Millisecond) // the primary was asked, and gives no answer
		gone.Crash()
		err := <-asked
		west.AwaitLeader(30 * time.Second)
		t.Logf("the promotion was answered with %v", err)
		if err := promoteDC(west.Leader()); err != nil && !strings.Contains(err.Error(), "is the primary already") {
			t.Fatal(err)
		}
		gone.Restart()
		f.Await(30*time.Second, "all know", primaryOf(west, "west", 1))
		f.Must(createToken(west.Server(0), 6))
	}, DC("east", 1).Edit(withACLs), DC("west", 3).Edit(withACLs))
}

// The datacenter that is promoted knows tokens by the hash of their secret. Their holders
// get in everywhere, secrets come from a datacenter that has them, and nothing else does:
// what the new primary made of a token stands.
func TestPromoteHashed(t *testing.T) {
	hashed := func(c *node.Config) {
		withACLs(c)
		c.ACL.HashedSecrets = true
	}
	Run(t, func(f *Federation) {
		east, west, north := f.DC("east"), f.DC("west"), f.DC("north")
		f.Must(west.Server(0).Join(east.Server(0)))
		f.Must(north.Server(0).Join(east.Server(0)))
		secret := func(i int) string { return fmt.Sprintf("%08d-0000-4000-8000-00000000000b", i) }
		for i := range 4 {
			f.Must(asRoot(east.Leader(), http.MethodPut, "/v1/acl/token", fmt.Sprintf(`{"AccessorID":%q,"SecretID":%q,"Description":"number %d"}`, accessor(i), secret(i), i), nil))
		}
		self := func(h *Host, i int, description string) error {
			r, err := h.Call(context.Background(), http.MethodGet, "/v1/acl/token/self?token="+secret(i), "")
			if err == nil && (r.Code != http.StatusOK || !strings.Contains(r.Body, secret(i)) || !strings.Contains(r.Body, `"`+description+`"`)) {
				err = fmt.Errorf("%s says of token %d: %d %s", h.Name, i, r.Code, r.Body)
			}
			return err
		}
		f.Await(20*time.Second, "copies", slowly(func() error {
			return errors.Join(self(west.Leader(), 3, "number 3"), self(north.Leader(), 3, "number 3"))
		}))
		time.Sleep(5 * time.Second)
		east.Server(0).Crash()
		time.Sleep(10 * time.Second)
		f.Must(promoteDC(west.Leader()))
		f.Await(30*time.Second, "north follows", primaryOf(north, "west", 1))
		unseen := func(dc *Datacenter, want ...string) {
			t.Helper()
			f.Await(20*time.Second, "unseen in "+dc.Name, slowly(func() error {
				got, err := unseenOf(dc.Leader())
				got = slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, "secret 0000000") })
				if err != nil || !slices.Equal(got, want) {
					return fmt.Errorf("unseen %v, want %v: %w", got, want, err)
				}
				return nil
			}))
		}
		unseen(north, "secret 00000000", "secret 00000001", "secret 00000002", "secret 00000003")
		f.Must(describe(west.Leader(), 1, "changed in the west"))
		f.Must(asRoot(west.Leader(), http.MethodDelete, "/v1/acl/token/"+accessor(2), "", nil))
		unseen(north, "secret 00000000", "secret 00000001", "secret 00000003")
		all := func(dcs ...*Datacenter) {
			t.Helper()
			for _, dc := range dcs {
				f.Await(10*time.Second, "holders get in at "+dc.Name, slowly(func() error {
					h := dc.Leader()
					return errors.Join(self(h, 0, "number 0"), self(h, 1, "changed in the west"), self(h, 3, "number 3"))
				}))
			}
		}
		all(west, north)

		east.Server(0).Restart()
		east.AwaitLeader(30 * time.Second)
		f.Await(time.Minute, "east follows", primaryOf(east, "west", 1))
		unseen(east, "secret 00000000", "secret 00000001", "secret 00000003")
		all(east)
		var done struct{ Errors []string }
		f.Must(asRoot(east.Leader(), http.MethodPut, "/v1/internal/federation/unseen/settle", `{"All":true}`, &done))
		if len(done.Errors) > 0 {
			t.Errorf("applied: %+v", done)
		}
		unseen(east)
		unseen(north)
		all(east, west, north)
		var shown struct{ SecretID string }
		f.Must(asRoot(west.Leader(), http.MethodGet, "/v1/acl/token/"+accessor(1), "", &shown))
		if shown.SecretID != secret(1) {
			t.Errorf("the new primary shows %q of token 1", shown.SecretID)
		}
		if _, err := descriptionOf(west.Leader(), 2); err == nil {
			t.Error("a token that the new primary deleted is back")
		}
	}, DC("east", 1).Edit(withACLs), DC("west", 1).Edit(hashed), DC("north", 1).Edit(withACLs))
}
