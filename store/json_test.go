package store

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Mirrors: the shapes of spec http-catalog-health 1 and http-kv-txn-session 1,
// for encoding/json to encode.

type kvMirror struct {
	LockIndex   uint64
	Key         string
	Flags       uint64
	Value       []byte
	Session     string `json:",omitempty"`
	CreateIndex Index
	ModifyIndex Index
}

type nodeMirror struct {
	ID, Node, Address, Datacenter string
	TaggedAddresses, Meta         map[string]string
	CreateIndex, ModifyIndex      Index
}

type serviceMirror struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	Meta              map[string]string
	Port              int
	SocketPath        string `json:",omitempty"`
	Weights           Weights
	EnableTagOverride bool
	Proxy             json.RawMessage
	Connect           json.RawMessage
	Locality          json.RawMessage `json:",omitempty"`
	PeerName          string
	CreateIndex       Index
	ModifyIndex       Index
}

type catalogServiceMirror struct {
	ID, Node, Address, Datacenter string
	TaggedAddresses, NodeMeta     map[string]string
	ServiceKind                   string
	ServiceID                     string
	ServiceName                   string
	ServiceTags                   []string
	ServiceAddress                string
	ServiceTaggedAddresses        map[string]ServiceAddress `json:",omitempty"`
	ServiceWeights                Weights
	ServiceMeta                   map[string]string
	ServicePort                   int
	ServiceSocketPath             string
	ServiceEnableTagOverride      bool
	ServiceProxy                  json.RawMessage
	ServiceConnect                json.RawMessage
	ServiceLocality               json.RawMessage
	CreateIndex, ModifyIndex      Index
}

type checkMirror struct {
	Node, CheckID, Name, Status, Notes, Output, ServiceID, ServiceName string
	ServiceTags                                                        []string
	Type, Interval, Timeout                                            string
	ExposedPort                                                        int
	Definition                                                         json.RawMessage
	CreateIndex, ModifyIndex                                           Index
}

type sessionMirror struct {
	ID, Name, Node string
	LockDelay      int64
	Behavior, TTL  string
	NodeChecks     []string
	ServiceChecks  []struct{ ID string }
	CreateIndex    Index
	ModifyIndex    Index
}

func mirrorSession(s *Session) sessionMirror {
	m := sessionMirror{ID: s.ID, Name: s.Name, Node: s.Node, LockDelay: int64(s.LockDelay), Behavior: s.Behavior, TTL: s.TTL,
		NodeChecks: append([]string{}, s.NodeChecks...), CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex}
	for _, id := range s.ServiceChecks {
		m.ServiceChecks = append(m.ServiceChecks, struct{ ID string }{id})
	}
	return m
}

func mirrorNode(n *Node) nodeMirror {
	return nodeMirror{n.ID, n.Node, n.Address, n.Datacenter, n.TaggedAddresses, n.Meta, n.CreateIndex, n.ModifyIndex}
}

func mirrorService(s *Service) serviceMirror {
	return serviceMirror{s.Kind, s.ID, s.Name, list(s.Tags), s.Address, s.TaggedAddresses, s.Meta, s.Port, s.SocketPath,
		s.Weights, s.EnableTagOverride, raw(s.Proxy, noProxy), raw(s.Connect, noConnect), s.Locality, "", s.CreateIndex, s.ModifyIndex}
}

func mirrorCheck(c *Check) checkMirror {
	return checkMirror{c.Node, c.CheckID, c.Name, c.Status, c.Notes, c.Output, c.ServiceID, c.ServiceName, list(c.ServiceTags),
		c.Type, c.Interval, c.Timeout, c.ExposedPort, raw(c.Definition, "{}"), c.CreateIndex, c.ModifyIndex}
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func raw(v json.RawMessage, otherwise string) json.RawMessage {
	if v == nil {
		return json.RawMessage(otherwise)
	}
	return v
}

func equalJSON(t *rapid.T, got []byte, mirror any) {
	t.Helper()
	want, err := json.Marshal(mirror)
	if err != nil {
		t.Fatalf("encoding/json refused the mirror: %v", err)
	}
	if string(got) != string(want) {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestJSONEqualsEncodingJSON(t *testing.T) {
	t.Run("string", rapid.MakeCheck(func(t *rapid.T) {
		s := genString().Draw(t, "s")
		equalJSON(t, AppendJSONString(nil, s), s)
	}))
	t.Run("kv", rapid.MakeCheck(func(t *rapid.T) {
		e := genKV(t)
		mirror := kvMirror{e.LockIndex, e.Key, e.Flags, e.Value, e.Session, e.CreateIndex, e.ModifyIndex}
		equalJSON(t, e.AppendJSON(nil), mirror)
		equalJSON(t, e.JSON(), mirror)
		equalJSON(t, e.JSON(), mirror)
	}))
	t.Run("node", rapid.MakeCheck(func(t *rapid.T) {
		n := genNode(t)
		equalJSON(t, n.AppendJSON(nil), mirrorNode(n))
		equalJSON(t, n.JSON(), mirrorNode(n))
	}))
	t.Run("service", rapid.MakeCheck(func(t *rapid.T) {
		s := genService(t)
		equalJSON(t, s.AppendJSON(nil), mirrorService(s))
		equalJSON(t, s.JSON(), mirrorService(s))
	}))
	t.Run("catalog service", rapid.MakeCheck(func(t *rapid.T) {
		n, s := genNode(t), genService(t)
		equalJSON(t, AppendCatalogService(nil, n, s), catalogServiceMirror{
			n.ID, n.Node, n.Address, n.Datacenter, n.TaggedAddresses, n.Meta,
			s.Kind, s.ID, s.Name, list(s.Tags), s.Address, s.TaggedAddresses, s.Weights, orEmpty(s.Meta), s.Port, s.SocketPath,
			s.EnableTagOverride, raw(s.Proxy, noProxy), raw(s.Connect, noConnect), raw(s.Locality, "null"),
			s.CreateIndex, s.ModifyIndex})
	}))
	t.Run("check", rapid.MakeCheck(func(t *rapid.T) {
		c := genCheck(t)
		equalJSON(t, c.AppendJSON(nil), mirrorCheck(c))
		equalJSON(t, c.JSON(), mirrorCheck(c))
	}))
	t.Run("session", rapid.MakeCheck(func(t *rapid.T) {
		s := genSession(t)
		equalJSON(t, s.AppendJSON(nil), mirrorSession(s))
		equalJSON(t, s.JSON(), mirrorSession(s))
	}))
	t.Run("instance", rapid.MakeCheck(func(t *rapid.T) {
		i := ServiceInstance{Node: genNode(t), Service: genService(t)}
		checks := []checkMirror{}
		for range rapid.IntRange(0, 3).Draw(t, "checks") {
			c := genCheck(t)
			i.Checks = append(i.Checks, c)
			checks = append(checks, mirrorCheck(c))
		}
		mirror := struct {
			Node    nodeMirror
			Service serviceMirror
			Checks  []checkMirror
		}{mirrorNode(i.Node), mirrorService(i.Service), checks}
		equalJSON(t, i.AppendJSON(nil), mirror)
	}))
}

// A fragment must not share its bytes with the buffer it was encoded in, and a
// large value must not be kept.
func TestJSONFragments(t *testing.T) {
	small := &KVEntry{Key: "a", Value: []byte("v")}
	first := small.JSON()
	if &first[0] != &small.JSON()[0] {
		t.Error("the second read of a small entry encoded it again")
	}
	large := &KVEntry{Key: "a", Value: []byte(strings.Repeat("v", maxCachedValue+1))}
	large.JSON()
	if large.json.Load() != nil {
		t.Error("the JSON of a large value is kept")
	}
	if got := string(AppendJSONList(nil, []*KVEntry{small, small})); got != "["+string(first)+","+string(first)+"]" {
		t.Errorf("list of two: %s", got)
	}
	if got := string(AppendJSONList(nil, []*Node(nil))); got != "[]" {
		t.Errorf("empty list: %s", got)
	}
}

func TestAutopilotJSON(t *testing.T) {
	a := AutopilotConfig{CleanupDeadServers: true, LastContactThreshold: 200e6, MaxTrailingLogs: 250,
		ServerStabilizationTime: 10e9, CreateIndex: 4, ModifyIndex: 4}
	want := `{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"10s",` +
		`"RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":4,"ModifyIndex":4}`
	if got := string(a.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func BenchmarkKVJSONFirst(b *testing.B) {
	value := []byte(strings.Repeat("v", 32))
	b.ReportAllocs()
	for b.Loop() {
		e := &KVEntry{Key: "service/web/config", Value: value, ModifyIndex: 12345}
		e.JSON()
	}
}

func BenchmarkKVJSONAgain(b *testing.B) {
	e := &KVEntry{Key: "service/web/config", Value: []byte("x"), ModifyIndex: 12345}
	b.ReportAllocs()
	for b.Loop() {
		e.JSON()
	}
}

// orEmpty is the metadata of the flat form: never null.
func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
