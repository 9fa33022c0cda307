package store

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

type wired interface {
	AppendWire([]byte) []byte
	DecodeWire([]byte) error
}

// unexported fields are caches.
var ignoreCaches = cmp.Options{
	cmpopts.IgnoreUnexported(KVEntry{}, Node{}, Service{}, Check{}, Session{}),
	cmpopts.EquateEmpty(),
}

func roundTrip(t *rapid.T, in, out wired) {
	t.Helper()
	b := in.AppendWire([]byte("head"))
	if string(b[:4]) != "head" {
		t.Fatal("AppendWire overwrote what was there")
	}
	b = append(b[4:], 0xfa, 0xff, 0xff, 0xff, 0x0f, 1, 'x') // field 2^29-1: one that a newer writer added
	if err := out.DecodeWire(b); err != nil {
		t.Fatalf("DecodeWire: %v", err)
	}
	for i := range b { // the record must not live in b
		b[i] = 0xff
	}
	if diff := cmp.Diff(in, out, ignoreCaches); diff != "" {
		t.Fatalf("round trip (-in +out):\n%s", diff)
	}
}

func TestWireRoundTrip(t *testing.T) {
	t.Run("kv command", rapid.MakeCheck(func(t *rapid.T) {
		in := &KVCommand{Op: KVOp(rapid.Byte().Draw(t, "op"))}
		in.Entry.setFrom(genKV(t))
		roundTrip(t, in, &KVCommand{Entry: KVEntry{Key: "left over", Flags: 7}})
	}))
	t.Run("register", rapid.MakeCheck(func(t *rapid.T) {
		in := &RegisterCommand{SkipNodeUpdate: rapid.Bool().Draw(t, "skip")}
		in.Node.setFrom(genNode(t))
		if rapid.Bool().Draw(t, "service") {
			in.Service = genService(t)
		}
		for range rapid.IntRange(0, 3).Draw(t, "checks") {
			in.Checks = append(in.Checks, genCheck(t))
		}
		roundTrip(t, in, &RegisterCommand{SkipNodeUpdate: true, Service: new(Service), Checks: []*Check{nil}})
	}))
	t.Run("deregister", rapid.MakeCheck(func(t *rapid.T) {
		roundTrip(t, &DeregisterCommand{genString().Draw(t, "n"), genString().Draw(t, "s"), genString().Draw(t, "c")}, new(DeregisterCommand))
	}))
	t.Run("catalog batch", rapid.MakeCheck(func(t *rapid.T) {
		in := new(CatalogBatch)
		for range rapid.IntRange(0, 4).Draw(t, "writes") {
			w := CatalogWrite{Token: genString().Draw(t, "token")}
			if rapid.Bool().Draw(t, "register") {
				w.Register = &RegisterCommand{Service: genService(t), Checks: []*Check{genCheck(t)}}
				w.Register.Node.setFrom(genNode(t))
			} else {
				w.Deregister = &DeregisterCommand{genString().Draw(t, "n"), "", genString().Draw(t, "c")}
			}
			in.Writes = append(in.Writes, w)
		}
		roundTrip(t, in, &CatalogBatch{Writes: []CatalogWrite{{Token: "left over"}}})
	}))
	t.Run("catalog outcome", rapid.MakeCheck(func(t *rapid.T) {
		in := new(CatalogOutcome)
		for range rapid.IntRange(0, 4).Draw(t, "writes") {
			var err error
			if rapid.Bool().Draw(t, "failed") {
				err = &Error{Kind: Kind(rapid.IntRange(0, int(KindNotBuilt)).Draw(t, "kind")), Message: genString().Draw(t, "text")}
			}
			in.Errors = append(in.Errors, err)
		}
		out := new(CatalogOutcome)
		if err := out.DecodeWire(in.AppendWire(nil)); err != nil || !reflect.DeepEqual(in.Errors, out.Errors) && len(in.Errors) > 0 {
			t.Fatalf("got %v, %v want %v", out.Errors, err, in.Errors)
		}
	}))
	t.Run("transaction", rapid.MakeCheck(func(t *rapid.T) {
		in := new(TxnCommand)
		for range rapid.IntRange(0, 4).Draw(t, "ops") {
			op := TxnOp{Verb: TxnVerb(rapid.SampledFrom([]string{"set", "cas", "get", "delete", "check-index", "get-or-empty", "lock", "", "odd"}).Draw(t, "verb"))}
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				op.KV = genKV(t)
			case 1:
				op.Node = genNode(t)
			case 2:
				op.Service = genService(t)
			case 3:
				op.Check = genCheck(t)
			}
			in.Ops = append(in.Ops, op)
		}
		roundTrip(t, in, &TxnCommand{Ops: []TxnOp{{Verb: "left over"}}})
	}))
	t.Run("cluster", rapid.MakeCheck(func(t *rapid.T) {
		roundTrip(t, &Cluster{genString().Draw(t, "id"), genString().Draw(t, "history"), rapid.Uint64().Draw(t, "recoveries")}, new(Cluster))
	}))
	t.Run("trust", rapid.MakeCheck(func(t *rapid.T) {
		roundTrip(t, &TrustCommand{Trust: *genTrust(t)}, &TrustCommand{Trust: Trust{Primary: "left over"}})
	}))
	t.Run("autopilot", rapid.MakeCheck(func(t *rapid.T) {
		roundTrip(t, &AutopilotCommand{CAS: rapid.Bool().Draw(t, "cas"), Config: AutopilotConfig{
			rapid.Bool().Draw(t, "a"), rapid.Int64().Draw(t, "b"), rapid.Uint64().Draw(t, "c"), uint(rapid.Uint32().Draw(t, "d")),
			rapid.Int64().Draw(t, "e"), genIndex(t, "f"), genIndex(t, "g")}}, new(AutopilotCommand))
	}))
	t.Run("session", rapid.MakeCheck(func(t *rapid.T) {
		in := genSession(t)
		cmd := &SessionCommand{Op: SessionOp(rapid.Byte().Draw(t, "op"))}
		if err := cmd.Session.DecodeWire(in.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, cmd, &SessionCommand{Op: 9, Session: Session{ID: "left over", NodeChecks: []string{"x"}}})
		list := []*Session{in, {}}
		got, err := DecodeSessions(AppendSessions(nil, list))
		if diff := cmp.Diff(list, got, ignoreCaches); diff != "" || err != nil {
			t.Fatalf("list: %v\n%s", err, diff)
		}
	}))
	t.Run("coordinates", rapid.MakeCheck(func(t *rapid.T) {
		in := new(CoordinatesCommand)
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			in.Updates = append(in.Updates, genCoordinate(t))
		}
		roundTrip(t, in, &CoordinatesCommand{Updates: []*Coordinate{nil}})
	}))
	t.Run("query", rapid.MakeCheck(func(t *rapid.T) {
		roundTrip(t, &Query{genString().Draw(t, "n"), genStrings(t, "tags"), genStringMap(t, "meta"),
			rapid.Bool().Draw(t, "passing"), genString().Draw(t, "sep"), genString().Draw(t, "near")}, new(Query))
	}))
	t.Run("server status", rapid.MakeCheck(func(t *rapid.T) {
		roundTrip(t, &ServerStatus{NodeID: genString().Draw(t, "id"), Node: genString().Draw(t, "n"),
			ClusterID: genString().Draw(t, "c"), Peers: genStrings(t, "peers"), LastTerm: rapid.Uint64().Draw(t, "term"),
			LastIndex: rapid.Uint64().Draw(t, "index"), Leader: rapid.Bool().Draw(t, "leader"), HasState: rapid.Bool().Draw(t, "state"),
			LastContact: time.Duration(rapid.Int64().Draw(t, "contact")), Recoveries: rapid.Uint64().Draw(t, "recoveries")}, new(ServerStatus))
	}))
	t.Run("operator", rapid.MakeCheck(func(t *rapid.T) {
		roundTrip(t, &RaftPeer{genString().Draw(t, "id"), genString().Draw(t, "address")}, &RaftPeer{"left", "over"})
		n := rapid.IntRange(0, 1<<30)
		u := &Usage{n.Draw(t, "nodes"), n.Draw(t, "services"), n.Draw(t, "instances"), nil, n.Draw(t, "billable")}
		if rapid.Bool().Draw(t, "kinds") {
			u.ConnectInstances = map[string]int{"connect-proxy": 0, genString().Draw(t, "kind"): n.Draw(t, "n")}
		}
		roundTrip(t, u, &Usage{ConnectInstances: map[string]int{"left over": 1}})
	}))
	t.Run("lists", rapid.MakeCheck(func(t *rapid.T) {
		var instances []ServiceInstance
		var nodes []NodeServices
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			instances = append(instances, ServiceInstance{genNode(t), genService(t), []*Check{genCheck(t)}})
			nodes = append(nodes, NodeServices{genNode(t), []*Service{genService(t), genService(t)}})
		}
		got, err := DecodeInstances(AppendInstances(nil, instances))
		if diff := cmp.Diff(instances, got, ignoreCaches); diff != "" || err != nil {
			t.Fatalf("instances: %v\n%s", err, diff)
		}
		got2, err := DecodeNodeServices(AppendNodeServices(nil, nodes))
		if diff := cmp.Diff(nodes, got2, ignoreCaches); diff != "" || err != nil {
			t.Fatalf("node services: %v\n%s", err, diff)
		}
		checks := []*Check{genCheck(t), {}}
		got3, err := DecodeChecks(AppendChecks(nil, checks))
		if diff := cmp.Diff(checks, got3, ignoreCaches); diff != "" || err != nil {
			t.Fatalf("checks: %v\n%s", err, diff)
		}
	}))
}

func (e *KVEntry) setFrom(in *KVEntry) {
	e.Key, e.Value, e.Flags, e.Session, e.LockIndex = in.Key, in.Value, in.Flags, in.Session, in.LockIndex
	e.CreateIndex, e.ModifyIndex = in.CreateIndex, in.ModifyIndex
}

func (n *Node) setFrom(in *Node) {
	n.ID, n.Node, n.Address, n.Datacenter = in.ID, in.Node, in.Address, in.Datacenter
	n.TaggedAddresses, n.Meta, n.CreateIndex, n.ModifyIndex = in.TaggedAddresses, in.Meta, in.CreateIndex, in.ModifyIndex
}

// Every exported field must be copied: a new one that Clone forgets is lost at
// the next write. The values come from the encoder's own generators.
func TestClone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kv, n, s, c, tr, sess := genKV(t), genNode(t), genService(t), genCheck(t), genTrust(t), genSession(t)
		for _, pair := range [][2]any{{kv, kv.Clone()}, {n, n.Clone()}, {s, s.Clone()}, {c, c.Clone()}, {tr, tr.Clone()}, {sess, sess.Clone()}} {
			if diff := cmp.Diff(pair[0], pair[1], ignoreCaches); diff != "" {
				t.Fatalf("clone of %T (-in +out):\n%s", pair[0], diff)
			}
		}
	})
	// The generators must set every field, or the round trips above prove less
	// than they say.
	for _, v := range []any{KVEntry{}, Node{}, Service{}, Check{}, Session{}} {
		seen := 0
		for i := range reflect.TypeOf(v).NumField() {
			if reflect.TypeOf(v).Field(i).IsExported() {
				seen++
			}
		}
		want := map[string]int{"KVEntry": 7, "Node": 8, "Service": 17, "Check": 16, "Session": 10}[reflect.TypeOf(v).Name()]
		if seen != want {
			t.Errorf("%T has %d fields, the tests know %d: teach the generators, wire, JSON and Clone", v, seen, want)
		}
	}
}

func decoders() map[string]func([]byte) error {
	return map[string]func([]byte) error{
		"KVCommand":         new(KVCommand).DecodeWire,
		"RegisterCommand":   new(RegisterCommand).DecodeWire,
		"DeregisterCommand": new(DeregisterCommand).DecodeWire,
		"Cluster":           new(Cluster).DecodeWire,
		"TrustCommand":      new(TrustCommand).DecodeWire,
		"AutopilotCommand":  new(AutopilotCommand).DecodeWire,
		"SessionCommand":    new(SessionCommand).DecodeWire,
		"TxnCommand":        new(TxnCommand).DecodeWire,
		"CatalogBatch":      new(CatalogBatch).DecodeWire,
		"CatalogOutcome":    new(CatalogOutcome).DecodeWire,
		"sessions":          func(b []byte) error { _, err := DecodeSessions(b); return err },
		"coordinates":       new(CoordinatesCommand).DecodeWire,
		"keyring ring":      new(KeyringRing).DecodeWire,
		"keyring request":   new(KeyringRequest).DecodeWire,
		"user event":        new(UserEvent).DecodeWire,
		"Query":             new(Query).DecodeWire,
		"ServerStatus":      new(ServerStatus).DecodeWire,
		"instances":         func(b []byte) error { _, err := DecodeInstances(b); return err },
		"node services":     func(b []byte) error { _, err := DecodeNodeServices(b); return err },
	}
}

func FuzzDecodeWire(f *testing.F) {
	seed := ServiceInstance{Node: &Node{Node: "n", Meta: map[string]string{"k": "v"}},
		Service: &Service{ID: "s", Tags: []string{"a", ""}, TaggedAddresses: map[string]ServiceAddress{"wan": {"::1", -1}}},
		Checks:  []*Check{{CheckID: "c"}}}
	f.Add(AppendInstances(nil, []ServiceInstance{seed}))
	f.Add((&RegisterCommand{Node: Node{Node: "n"}, Service: seed.Service, Checks: seed.Checks}).AppendWire(nil))
	f.Add((&KVCommand{Op: KVSet, Entry: KVEntry{Key: "k", Value: []byte("v"), Flags: math.MaxUint64}}).AppendWire(nil))
	f.Add((&TrustCommand{Trust{Roots: []TrustRoot{{ID: "r"}}, Datacenters: []TrustDatacenter{{Name: "d"}}}}).AppendWire(nil))
	f.Add((&SessionCommand{Op: SessionCreate, Session: Session{ID: "i", TTL: "10s", LockDelay: -1, NodeChecks: []string{"a", ""}}}).AppendWire(nil))
	f.Add((&CoordinatesCommand{[]*Coordinate{{Node: "n", Coord: Coord{Vec: []float64{1, -0.5}}}}}).AppendWire(nil))
	f.Add((&TxnCommand{Ops: []TxnOp{{Verb: TxnSet, KV: &KVEntry{Key: "k"}}, {Verb: "?"}, {Verb: TxnGet, Service: seed.Service}}}).AppendWire(nil))
	f.Add((&CatalogBatch{Writes: []CatalogWrite{{Register: &RegisterCommand{Service: seed.Service}}, {Deregister: new(DeregisterCommand), Token: "t"}}}).AppendWire(nil))
	f.Add((&CatalogOutcome{Errors: []error{nil, ErrNoLeader}}).AppendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := string(b)
		for name, decode := range decoders() {
			_ = decode(b)
			if string(b) != in {
				t.Fatalf("%s changed its input", name)
			}
		}
		// What a decoder accepts it must be able to write and read again.
		var c RegisterCommand
		if c.DecodeWire(b) != nil {
			return
		}
		var again RegisterCommand
		if err := again.DecodeWire(c.AppendWire(nil)); err != nil {
			t.Fatalf("second decoding: %v", err)
		}
		if diff := cmp.Diff(&c, &again, ignoreCaches); diff != "" {
			t.Fatalf("second decoding differs:\n%s", diff)
		}
		if err := c.Prepare(); err == nil && c.Service != nil {
			c.Service.ConnectTarget()
			c.Service.JSON()
		}
	})
}
