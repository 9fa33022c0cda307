package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"landbridge/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client that saw "nothing yet" blocks on index 1 and must see the first write.
func TestFirstWriteIsAboveTheEmptyIndex(t *testing.T) {
	s := New()
	empty, _ := s.KVGet(nil, "a")
	if empty != 1 {
		t.Errorf("index of an empty store: %d, want 1", empty)
	}
	put(t, s, "a", "v")
	if idx, _ := s.KVGet(nil, "a"); idx <= empty {
		t.Errorf("index after the first write: %d, want more than %d", idx, empty)
	}
}

func TestEveryCommandHasAnIndex(t *testing.T) {
	s := New()
	cas := &store.KVCommand{Op: store.KVCAS, Entry: store.KVEntry{Key: "a", Value: []byte("1")}}
	cmds := []store.Command{
		command(store.CmdKV, cas),
		command(store.CmdKV, cas), // lost: the key exists now
		{Kind: 999, Ignorable: true, Payload: []byte("from a newer version")},
		{Kind: store.CmdKV, Payload: []byte{0xff}},
		command(store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: "a", Value: []byte("2")}}),
	}
	res := make([]store.Result, len(cmds))
	s.Apply(cmds, res)
	for i, want := range []bool{true, false, true, false, true} {
		if res[i].Index != firstIndex+1+store.Index(i) || res[i].OK != want {
			t.Errorf("command %d: %+v, want OK %v", i, res[i], want)
		}
	}
	if store.KindOf(res[3].Err) != store.KindInvalid {
		t.Errorf("malformed payload: %v", res[3].Err)
	}
	if idx, e := s.KVGet(nil, "a"); idx != res[4].Index || e.CreateIndex != res[0].Index {
		t.Errorf("index %d, entry %s", idx, e.JSON())
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown command that may not be skipped was skipped")
		}
	}()
	s.Apply([]store.Command{{Kind: 999}}, res[:1])
}

func TestRegisterErrors(t *testing.T) {
	a, b := uuid("aaaa"), uuid("bbbb")
	cases := []struct {
		name string
		cmd  *store.RegisterCommand
		want string
	}{
		{"no node", &store.RegisterCommand{}, "Must provide node"},
		{"no address", &store.RegisterCommand{Node: store.Node{Node: "e"}}, "Must provide address if SkipNodeUpdate is not set"},
		{"short id", &store.RegisterCommand{Node: store.Node{Node: "e", Address: "1", ID: "x"}}, "Bad node ID: uuid string is wrong length"},
		{"odd id", &store.RegisterCommand{Node: store.Node{Node: "e", Address: "1", ID: strings.Repeat("x", 36)}}, "Bad node ID: uuid is improperly formatted"},
		{"zero byte", &store.RegisterCommand{Node: store.Node{Node: "e\x00", Address: "1"}}, `node name "e\x00" must not contain a zero byte`},
		{"service without name", register("e", &store.Service{}), "Must provide service name (Service.Service)"},
		{"service with id only", register("e", &store.Service{ID: "x"}), "Must provide service name (Service.Service) when service ID is provided"},
		{"check of another node", register("e", &store.Check{Node: "f", CheckID: "c2"}), "Node 'f' for check 'c2' doesn't match register request node 'e'"},
		{"nameless check", register("e", &store.Check{}), `failed inserting check on node "e": neither CheckID nor Name is set`},
		{"check of no service", register("e", &store.Check{CheckID: "c3", ServiceID: "nope"}), "Unknown service ID 'nope' for check ID 'c3'"},
		{"block that is no JSON", register("e", &store.Service{Name: "x", Proxy: []byte("{")}), `a block of service "x" is not JSON`},
		{"name of a live agent", &store.RegisterCommand{Node: store.Node{Node: "ALPHA", Address: "9", ID: b}},
			fmt.Sprintf("failed inserting node: Error while renaming Node ID: %q: Node name ALPHA is reserved by node %s with name alpha (10.0.0.1)", b, a)},
	}
	s := New()
	alpha := register("alpha", &store.Check{CheckID: store.SerfHealth, Status: store.Warning})
	alpha.Node.ID = a
	must(t, s, store.CmdRegister, alpha)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before, _ := s.Nodes(nil)
			res := apply(s, store.CmdRegister, c.cmd)
			var e *store.Error
			if !errors.As(res.Err, &e) || e.Kind != store.KindInvalid || e.Message != c.want {
				t.Errorf("got %v\nwant %s", res.Err, c.want)
			}
			if after, l := s.Nodes(nil); after != before || len(l) != 1 {
				t.Errorf("a refused registration changed the catalog: index %d to %d, %d nodes", before, after, len(l))
			}
		})
	}
}

func TestNodeIdentity(t *testing.T) {
	a, b := uuid("aaaa"), uuid("bbbb")
	s := New()
	reg := func(name, id string, parts ...any) {
		t.Helper()
		c := register(name, parts...)
		c.Node.ID = id
		must(t, s, store.CmdRegister, c)
	}
	name := func(look string) string {
		_, n := s.Node(nil, look)
		if n == nil {
			return ""
		}
		return n.Node + " " + n.ID
	}
	reg("one", a, &store.Service{Name: "web"})
	for _, look := range []string{"one", "ONE", a, strings.ToUpper(a), "aaaa", "aaaa0000-0000-4"} {
		if got := name(look); got != "one "+a {
			t.Errorf("looking for %q: %q", look, got)
		}
	}
	if got := name("aaa"); got != "" {
		t.Errorf("a prefix of three letters found %q", got)
	}

	reg("two", a)
	if got := name("one"); got != "" {
		t.Errorf("after the rename the old name is %q", got)
	}
	if _, l := s.ServiceNodes(nil, "web"); len(l) != 0 || name("two") != "two "+a {
		t.Errorf("after the rename: %d instances, %q", len(l), name("two"))
	}

	reg("two", "") // an anonymous registration takes no identity away
	if got := name("two"); got != "two "+a {
		t.Errorf("after a registration without id: %q", got)
	}

	reg("two", "", &store.Check{CheckID: store.SerfHealth, Status: store.Critical})
	reg("two", b) // the agent that held the name is dead
	if got := name("two"); got != "two "+b || name(a) != "" {
		t.Errorf("after taking over a dead node's name: %q, old id %q", got, name(a))
	}

	reg("three", uuid("bbbb1"))
	if got := name("bbbb"); got != "" {
		t.Errorf("an ambiguous prefix found %q", got)
	}
	w := s.NewWatch()
	defer w.Close()
	s.Node(w, "bbbb")
	must(t, s, store.CmdDeregister, &store.DeregisterCommand{Node: "three"})
	if !fired(w) || name("bbbb") != "two "+b {
		t.Errorf("a prefix that became unique: woken late, or found %q", name("bbbb"))
	}
}

func TestSkipNodeUpdate(t *testing.T) {
	s := New()
	c := register("n", &store.Service{Name: "a"})
	must(t, s, store.CmdRegister, c)
	c = &store.RegisterCommand{Node: store.Node{Node: "n", Address: "10.9.9.9"}, SkipNodeUpdate: true, Service: &store.Service{Name: "b"}}
	must(t, s, store.CmdRegister, c)
	_, n, services := s.NodeServices(nil, "n")
	if n.Address != "10.0.0.1" || len(services) != 2 {
		t.Errorf("address %s, %d services", n.Address, len(services))
	}
	c = &store.RegisterCommand{Node: store.Node{Node: "new"}, SkipNodeUpdate: true}
	must(t, s, store.CmdRegister, c)
	if _, n := s.Node(nil, "new"); n == nil {
		t.Error("a missing node was not created")
	}
}

// The granularity that spec http-common 6 asks for, with names: what each write
// wakes, and nothing else.
func TestWakes(t *testing.T) {
	s := New()
	must(t, s, store.CmdRegister, register("n1", &store.Service{Name: "web"}, &store.Check{CheckID: "up", Status: store.Passing},
		&store.Check{CheckID: "web", ServiceID: "web", Status: store.Passing}))
	must(t, s, store.CmdRegister, register("n1", &store.Service{Name: "db"}))
	must(t, s, store.CmdRegister, register("n2", &store.Service{Name: "cache"}))
	must(t, s, store.CmdRegister, register("n1", &store.Service{Name: "side", Kind: "connect-proxy",
		Proxy: []byte(`{"DestinationServiceName":"Web"}`)}))
	reads := map[string]func(w *Watch){
		"kv":          func(w *Watch) { s.KVGet(w, "k") },
		"kv prefix":   func(w *Watch) { s.KVList(w, "") },
		"nodes":       func(w *Watch) { s.Nodes(w) },
		"services":    func(w *Watch) { s.Services(w) },
		"catalog web": func(w *Watch) { s.ServiceNodes(w, "WEB") },
		"health web":  func(w *Watch) { s.ServiceInstances(w, "web") },
		"health db":   func(w *Watch) { s.ServiceInstances(w, "db") },
		"connect web": func(w *Watch) { s.ConnectInstances(w, "web") },
		"cache":       func(w *Watch) { s.ServiceInstances(w, "cache") },
		"checks web":  func(w *Watch) { s.ServiceChecks(w, "web") },
		"node n1":     func(w *Watch) { s.NodeServices(w, "N1") },
		"checks n1":   func(w *Watch) { s.NodeChecks(w, "n1") },
		"critical":    func(w *Watch) { s.ChecksInState(w, store.Critical) },
		"any":         func(w *Watch) { s.ChecksInState(w, store.AnyStatus) },
		"trust":       func(w *Watch) { s.Trust(w) },
		"autopilot":   func(w *Watch) { s.Autopilot(w) },
		"session":     func(w *Watch) { s.Session(w, "s1") },
		"sessions":    func(w *Watch) { s.Sessions(w) },
		"sessions n1": func(w *Watch) { s.NodeSessions(w, "N1") },
	}
	session := func(op store.SessionOp, id, node string) func() store.Index {
		return func() store.Index {
			return must(t, s, store.CmdSession, &store.SessionCommand{Op: op, Session: store.Session{ID: id, Node: node}})
		}
	}
	at := func(node string, parts ...any) func() store.Index {
		return func() store.Index { return must(t, s, store.CmdRegister, register(node, parts...)) }
	}
	for _, c := range []struct {
		name string
		do   func() store.Index
		want []string
	}{
		{"same registration", at("n1", &store.Service{Name: "web"}, &store.Check{CheckID: "up", Status: store.Passing}), nil},
		{"key", func() store.Index { return put(t, s, "k", "v") }, []string{"kv", "kv prefix"}},
		{"same key", func() store.Index { return put(t, s, "k", "v") }, nil},
		{"other key", func() store.Index { return put(t, s, "l", "v") }, []string{"kv prefix"}},
		{"check of web turns critical", at("n1", &store.Check{CheckID: "web", ServiceID: "web", Status: store.Critical}),
			[]string{"any", "checks n1", "checks web", "critical", "health web"}},
		{"its output changes", at("n1", &store.Check{CheckID: "web", ServiceID: "web", Status: store.Critical, Output: "o"}),
			[]string{"any", "checks n1", "checks web", "critical", "health web"}},
		{"check of the node warns", at("n1", &store.Check{CheckID: "up", Status: store.Warning}),
			[]string{"any", "checks n1", "connect web", "health db", "health web"}},
		{"instance of web changes", at("n1", &store.Service{Name: "web", Port: 1}),
			[]string{"catalog web", "health web", "node n1", "services"}},
		{"web on another node", at("n2", &store.Service{Name: "web"}),
			[]string{"catalog web", "health web", "services"}},
		{"node moves", func() store.Index {
			c := register("n1")
			c.Node.Address = "10.0.0.9"
			return must(t, s, store.CmdRegister, c)
		}, []string{"catalog web", "connect web", "health db", "health web", "node n1", "nodes"}},
		{"trust", func() store.Index { return must(t, s, store.CmdTrust, &store.TrustCommand{}) }, []string{"trust"}},
		{"autopilot", func() store.Index { return must(t, s, store.CmdAutopilot, &store.AutopilotCommand{}) }, []string{"autopilot"}},
		{"the same autopilot", func() store.Index { return must(t, s, store.CmdAutopilot, &store.AutopilotCommand{}) }, nil},
		{"session", session(store.SessionCreate, "s1", "n1"), []string{"session", "sessions", "sessions n1"}},
		{"session of another node", session(store.SessionCreate, "s2", "n2"), []string{"sessions"}},
		{"unknown session ends", session(store.SessionDestroy, "s3", ""), nil},
		{"key is locked", func() store.Index {
			return must(t, s, store.CmdKV, &store.KVCommand{Op: store.KVLock, Entry: store.KVEntry{Key: "k", Session: "s2"}})
		}, []string{"kv", "kv prefix"}},
		{"its session ends", session(store.SessionDestroy, "s2", ""), []string{"kv", "kv prefix", "sessions"}},
		{"proxy goes", func() store.Index {
			return must(t, s, store.CmdDeregister, &store.DeregisterCommand{Node: "n1", ServiceID: "side"})
		}, []string{"connect web", "node n1", "services"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			watches := make(map[string]*Watch)
			for name, read := range reads {
				w := s.NewWatch()
				defer w.Close()
				read(w)
				watches[name] = w
			}
			c.do()
			for name, w := range watches {
				if fired(w) {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("woke %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestWatchLifecycle(t *testing.T) {
	s := New()
	w := s.NewWatch()
	for i := range 10 { // more topics than fit inline, each twice
		for range 2 {
			s.KVGet(w, fmt.Sprint(i))
			s.KVList(w, fmt.Sprint(i))
		}
	}
	if n := s.Counts().Watches; n != 20 {
		t.Errorf("%d registrations, want 20", n)
	}
	put(t, s, "3", "v")
	put(t, s, "4", "v")
	if !fired(w) || fired(w) {
		t.Error("a watch must fire once for any number of changes")
	}
	if n := s.Counts().Watches; n != 0 {
		t.Errorf("%d registrations after firing", n)
	}
	s.KVGet(w, "3")
	w.Close()
	w.Close()
	put(t, s, "3", "other")
	if n := s.Counts().Watches; n != 0 || fired(w) {
		t.Errorf("%d registrations after Close, or it fired", n)
	}
	if n := len(s.watches.prefixes); n != 0 {
		t.Errorf("%d lengths of prefixes left", n)
	}

	s.KVGet(w, "3")
	s.Restore(NewImage(Header{Index: 7}))
	if !fired(w) {
		t.Error("Restore woke nobody")
	}
	if s.Index() != 7 {
		t.Errorf("index after Restore: %d, want the image's", s.Index())
	}
}

func TestTrustAndCluster(t *testing.T) {
	s := New()
	first := store.Cluster{ID: "c", HistoryID: "h"}
	must(t, s, store.CmdCluster, &first)
	if res := apply(s, store.CmdCluster, &store.Cluster{ID: "other", HistoryID: "h"}); res.OK || s.Cluster() != first {
		t.Errorf("a second cluster id: %+v, %+v", res, s.Cluster())
	}
	must(t, s, store.CmdCluster, &store.Cluster{ID: "c", HistoryID: "h2"})
	if s.Cluster().HistoryID != "h2" || s.ClusterID() != "c" {
		t.Errorf("new history: %+v", s.Cluster())
	}

	idx := must(t, s, store.CmdTrust, &store.TrustCommand{Trust: store.Trust{Primary: "dc1"}})
	if res := apply(s, store.CmdTrust, &store.TrustCommand{Trust: store.Trust{Primary: "dc2"}}); res.OK {
		t.Error("a stale trust record was taken")
	}
	must(t, s, store.CmdTrust, &store.TrustCommand{Trust: store.Trust{Primary: "dc3", ModifyIndex: idx}})
	if got, tr := s.Trust(nil); tr.Primary != "dc3" || got != tr.ModifyIndex || got <= idx {
		t.Errorf("trust of %q at %d", tr.Primary, got)
	}

	idx = must(t, s, store.CmdAutopilot, &store.AutopilotCommand{Config: store.AutopilotConfig{MaxTrailingLogs: 1}})
	if res := apply(s, store.CmdAutopilot, &store.AutopilotCommand{CAS: true, Config: store.AutopilotConfig{MaxTrailingLogs: 2, ModifyIndex: idx + 1}}); res.OK {
		t.Error("autopilot with a wrong cas was taken")
	}
	must(t, s, store.CmdAutopilot, &store.AutopilotCommand{CAS: true, Config: store.AutopilotConfig{MaxTrailingLogs: 2, ModifyIndex: idx}})
	if _, a := s.Autopilot(nil); a.MaxTrailingLogs != 2 || a.CreateIndex != idx {
		t.Errorf("autopilot: %+v", a)
	}
	again := copyOf(t, s)
	_, tr := again.Trust(nil)
	_, a := again.Autopilot(nil)
	if again.Cluster() != s.Cluster() || tr.Primary != "dc3" || a.MaxTrailingLogs != 2 {
		t.Errorf("after a restart: %+v, %+v, %+v", again.Cluster(), tr.Primary, a)
	}
}

func TestByAddress(t *testing.T) {
	s := New()
	must(t, s, store.CmdRegister, register("n1", &store.Service{Name: "web", Address: "::ffff:10.0.0.2"}))
	c := register("n2", &store.Service{Name: "db", Address: "db.example.com"})
	c.Node.Address = "2001:db8::0:1"
	must(t, s, store.CmdRegister, c)
	for ip, want := range map[string]string{
		"10.0.0.1": "n1", "10.0.0.2": "n1 web", "2001:DB8::1": "n2", "10.0.0.3": "", "db.example.com": "", "": "",
	} {
		_, l := s.ByAddress(ip)
		var got []string
		for _, e := range l {
			got = append(got, e.Node.Node)
			for _, svc := range e.Services {
				got = append(got, svc.Name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", ip, got, want)
		}
	}
}

// Views are shared: what one reader got must not change under it.
func TestViewsAreImmutable(t *testing.T) {
	s := New()
	must(t, s, store.CmdRegister, register("n1", &store.Service{Name: "web"}, &store.Check{CheckID: "c", ServiceID: "web"}))
	_, before := s.ServiceInstances(nil, "web")
	_, shared := s.ServiceInstances(nil, "web")
	if &before[0] != &shared[0] {
		t.Error("two readers of an unchanged service got lists of their own")
	}
	was := renderInstances(before, true)
	must(t, s, store.CmdRegister, register("n1", &store.Check{CheckID: "c", ServiceID: "web", Status: store.Passing}))
	must(t, s, store.CmdRegister, register("n0", &store.Service{Name: "web"}))
	if now := renderInstances(before, true); now != was {
		t.Errorf("a list in a reader's hands changed:\n%s\n%s", was, now)
	}
	if _, after := s.ServiceInstances(nil, "web"); len(after) != 2 || after[1].Checks[0].Status != store.Passing {
		t.Errorf("new list: %s", renderInstances(after, true))
	}
}

func TestCounts(t *testing.T) {
	s := New()
	put(t, s, "a", "")
	put(t, s, "b", "")
	del(t, s, "b")
	must(t, s, store.CmdRegister, register("n1", &store.Service{Name: "web", Connect: []byte(`{"Native":true}`)}, &store.Check{CheckID: "c"}))
	must(t, s, store.CmdRegister, register("n2", &store.Service{Name: "WEB"}))
	must(t, s, store.CmdRegister, register("n2", &store.Service{Name: "p", Kind: "connect-proxy"}))
	for name, s := range map[string]*Store{"live": s, "restarted": copyOf(t, s)} {
		got := s.Counts()
		if got.KVEntries != 1 || got.KVTombstones != 1 || got.Nodes != 2 || got.Services != 2 || got.ServiceInstances != 3 ||
			got.Checks != 1 || got.ConnectInstances["connect-native"] != 1 || got.ConnectInstances["connect-proxy"] != 1 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Tombstones go after a quarter of an hour, and the index stays where it was.
func TestReaper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		put(t, s, "p/a", "")
		put(t, s, "p/b", "")
		ctx, cancel := context.WithCancel(t.Context())
		var ran sync.WaitGroup
		ran.Go(func() {
			if err := s.RunReaper(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("RunReaper: %v", err)
			}
		})
		deleted := del(t, s, "p/b")
		time.Sleep(14 * time.Minute)
		if n := s.Counts().KVTombstones; n != 1 {
			t.Errorf("%d tombstones after 14 minutes, want 1", n)
		}
		del(t, s, "p/c") // nothing: no tombstone
		put(t, s, "q", "")
		young := del(t, s, "q")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := s.Counts().KVTombstones; n != 1 {
			t.Errorf("%d tombstones after 16 minutes, want the younger one (%d)", n, young)
		}
		if idx, l := s.KVList(nil, "p/"); idx != deleted || len(l) != 1 {
			t.Errorf("index %d with %d entries, want %d", idx, len(l), deleted)
		}
		cancel()
		ran.Wait()
	})
}

// Long lists are read from a copy while writers go on: a list must be of one
// moment, and a snapshot too.
func TestLongScansBesideWrites(t *testing.T) {
	s := New()
	const n = longScan + longScan/2
	batch := func(value string) {
		cmds := make([]store.Command, n)
		for i := range cmds {
			cmds[i] = command(store.CmdKV, &store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: fmt.Sprintf("k/%06d", i), Value: []byte(value)}})
		}
		s.Apply(cmds, make([]store.Result, n))
	}
	batch("first")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(stop)
		for i := range 4 {
			batch(fmt.Sprint(i))
		}
	})
	for range 2 {
		wg.Go(func() {
			for {
				_, list := s.KVList(nil, "k/")
				if len(list) != n {
					t.Errorf("%d entries, want %d", len(list), n)
				}
				for _, e := range list {
					if string(e.Value) != string(list[0].Value) {
						t.Errorf("a list holds %q and %q", list[0].Value, e.Value)
						return
					}
				}
				if len(s.Snapshot().kv.Values()) != n {
					t.Error("a snapshot of another size")
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
}

func TestImageRefusesWhatDoesNotFit(t *testing.T) {
	node := (&store.Node{Node: "n", ID: uuid("aaaa")}).AppendWire(nil)
	other := (&store.Node{Node: "N"}).AppendWire(nil)
	same := (&store.Node{Node: "m", ID: uuid("aaaa")}).AppendWire(nil)
	svc := (&store.Service{Node: "n", ID: "s", Name: "s"}).AppendWire(nil)
	for name, records := range map[string][]struct {
		kind RecordKind
		b    []byte
	}{
		"unknown kind":          {{99, nil}},
		"node twice":            {{recordNode, node}, {recordNode, other}},
		"id twice":              {{recordNode, node}, {recordNode, same}},
		"service without node":  {{recordService, svc}},
		"service twice":         {{recordNode, node}, {recordService, svc}, {recordService, svc}},
		"check without node":    {{recordCheck, (&store.Check{Node: "n", CheckID: "c"}).AppendWire(nil)}},
		"check without service": {{recordNode, node}, {recordCheck, (&store.Check{Node: "n", CheckID: "c", ServiceID: "s"}).AppendWire(nil)}},
		"key twice":             {{recordKV, (&store.KVEntry{Key: "k"}).AppendWire(nil)}, {recordKV, (&store.KVEntry{Key: "k"}).AppendWire(nil)}},
		"garbage":               {{recordKV, []byte{0xff}}},
	} {
		t.Run(name, func(t *testing.T) {
			im := NewImage(Header{Index: 1})
			for i, r := range records {
				err := im.Add(r.kind, r.b)
				if last := i == len(records)-1; (err != nil) != last {
					t.Errorf("record %d: %v", i, err)
				}
			}
		})
	}
}

// A recovery lifts every index above what the lost servers may have given out, the
// same on each server, and everybody who waits is told.
func TestRecoveryLiftsIndexes(t *testing.T) {
	s := New()
	apply := func(kind store.CommandKind, payload []byte) store.Result {
		var res [1]store.Result
		s.Apply([]store.Command{{Kind: kind, Payload: payload}}, res[:])
		return res[0]
	}
	first := store.Cluster{ID: "c", HistoryID: "h1"}
	apply(store.CmdCluster, first.AppendWire(nil))
	kv := store.KVCommand{Op: store.KVSet, Entry: store.KVEntry{Key: "k", Value: []byte("v")}}
	before := apply(store.CmdKV, kv.AppendWire(nil)).Index
	w := s.NewWatch()
	defer w.Close()
	s.KVGet(w, "k")
	next := store.Cluster{ID: "c", HistoryID: "h2", Recoveries: 1}
	res := apply(store.CmdCluster, next.AppendWire(nil))
	if !res.OK || res.Index < before+recoveryGap || s.Floor() != res.Index || s.Cluster() != next {
		t.Errorf("after the recovery: %+v, floor %d, cluster %+v", res, s.Floor(), s.Cluster())
	}
	select {
	case <-w.C():
	default:
		t.Error("a reader of an unchanged key sleeps on")
	}
	again := store.Cluster{ID: "c", HistoryID: "h3", Recoveries: 1}
	if res := apply(store.CmdCluster, again.AppendWire(nil)); res.Index != s.Floor()+1 {
		t.Errorf("a new history of the same recovery: %+v, floor %d", res, s.Floor())
	}
	if other := (store.Cluster{ID: "d", HistoryID: "h", Recoveries: 9}); apply(store.CmdCluster, other.AppendWire(nil)).OK {
		t.Error("another cluster's recovery was applied")
	}
	im := NewImage(s.Snapshot().Header())
	r := New()
	r.Restore(im)
	if r.Cluster() != again || r.Floor() != s.Floor() {
		t.Errorf("a snapshot keeps %+v, floor %d", r.Cluster(), r.Floor())
	}
}
