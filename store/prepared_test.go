package store

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var ignoreQueryCaches = cmp.Options{
	cmpopts.IgnoreUnexported(PreparedQuery{}, Node{}, Service{}, Check{}),
	cmpopts.EquateEmpty(),
}

func genQuery(t *rapid.T) *PreparedQuery {
	q := &PreparedQuery{
		ID: genString().Draw(t, "ID"), Name: genString().Draw(t, "Name"), Session: genString().Draw(t, "Session"),
		Token: genString().Draw(t, "Token"), TTL: genString().Draw(t, "TTL"),
		Template: QueryTemplate{genString().Draw(t, "Type"), genString().Draw(t, "Regexp"), rapid.Bool().Draw(t, "RemoveEmptyTags")},
		Service: QueryService{
			Service: genString().Draw(t, "Service"), OnlyPassing: rapid.Bool().Draw(t, "OnlyPassing"),
			IgnoreCheckIDs: genStrings(t, "IgnoreCheckIDs"), Near: genString().Draw(t, "Near"), Tags: genStrings(t, "Tags"),
			NodeMeta: genStringMap(t, "NodeMeta"), ServiceMeta: genStringMap(t, "ServiceMeta"),
			Connect: rapid.Bool().Draw(t, "Connect"), Peer: genString().Draw(t, "Peer"),
			Failover: QueryFailover{SkipLocalDatacenter: rapid.Bool().Draw(t, "skip"), NearestN: rapid.Int().Draw(t, "NearestN"),
				Datacenters: genStrings(t, "Datacenters")},
		},
		CreateIndex: genIndex(t, "CreateIndex"), ModifyIndex: genIndex(t, "ModifyIndex"),
	}
	for range rapid.IntRange(0, 2).Draw(t, "targets") {
		q.Service.Failover.Targets = append(q.Service.Failover.Targets, QueryTarget{genString().Draw(t, "dc"), genString().Draw(t, "peer")})
	}
	return q
}

// queryRoundTrip also adds a field of a newer writer, and overwrites the bytes:
// a record must not live in them.
func queryRoundTrip(t *rapid.T, in, out wired) {
	t.Helper()
	b := append(in.AppendWire(nil), 0xfa, 0xff, 0xff, 0xff, 0x0f, 1, 'x')
	if err := out.DecodeWire(b); err != nil {
		t.Fatalf("DecodeWire: %v", err)
	}
	for i := range b {
		b[i] = 0xff
	}
	if diff := cmp.Diff(in, out, ignoreQueryCaches); diff != "" {
		t.Fatalf("round trip (-in +out):\n%s", diff)
	}
}

func TestQueryWireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := genQuery(t)
		queryRoundTrip(t, q, &PreparedQuery{Name: "left over"})
		queryRoundTrip(t, &QueryExecute{Limit: rapid.Int().Draw(t, "limit"), Connect: rapid.Bool().Draw(t, "connect"),
			Agent: genString().Draw(t, "agent"), Source: genString().Draw(t, "source"), Query: q}, new(QueryExecute))
		queryRoundTrip(t, &QueryResult{Service: genString().Draw(t, "service"), TTL: genString().Draw(t, "ttl"),
			Nodes:      []ServiceInstance{{Node: genNode(t), Service: genService(t), Checks: []*Check{genCheck(t)}}},
			Datacenter: genString().Draw(t, "dc"), Failovers: rapid.Int().Draw(t, "failovers"), BySource: rapid.Bool().Draw(t, "by source")},
			new(QueryResult))
		cmd := &QueryCommand{Op: QueryOp(rapid.Byte().Draw(t, "op"))}
		if err := cmd.Query.DecodeWire(q.AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		queryRoundTrip(t, cmd, new(QueryCommand))
		list, err := DecodeQueries(AppendQueries(nil, []*PreparedQuery{q, {}}))
		if diff := cmp.Diff([]*PreparedQuery{q, {}}, list, ignoreQueryCaches); err != nil || diff != "" {
			t.Fatalf("list: %v\n%s", err, diff)
		}
		if diff := cmp.Diff(q, q.Clone(), ignoreQueryCaches); diff != "" {
			t.Fatalf("clone (-in +out):\n%s", diff)
		}
	})
}

// queryMirror is the shape of spec http-query-event-coordinate 1.
type queryMirror struct {
	ID, Name, Session, Token string
	Template                 struct {
		Type, Regexp    string
		RemoveEmptyTags bool
	}
	Service struct {
		Service, SamenessGroup string
		Failover               struct {
			SkipLocalDatacenter bool
			NearestN            int
			Datacenters         []string
			Targets             []struct{ Peer, Datacenter string }
		}
		IncludeAll, OnlyPassing bool
		IgnoreCheckIDs          []string
		Near                    string
		Tags                    []string
		NodeMeta, ServiceMeta   map[string]string
		Connect                 bool
		Peer                    string
	}
	DNS                      struct{ TTL string }
	CreateIndex, ModifyIndex Index
}

func TestQueryJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := genQuery(t)
		m := queryMirror{ID: q.ID, Name: q.Name, Session: q.Session, Token: q.Token, CreateIndex: q.CreateIndex, ModifyIndex: q.ModifyIndex}
		m.Template.Type, m.Template.Regexp, m.Template.RemoveEmptyTags = q.Template.Type, q.Template.Regexp, q.Template.RemoveEmptyTags
		s, f := &q.Service, &q.Service.Failover
		m.Service.Service, m.Service.OnlyPassing, m.Service.IgnoreCheckIDs, m.Service.Near = s.Service, s.OnlyPassing, s.IgnoreCheckIDs, s.Near
		m.Service.Tags, m.Service.NodeMeta, m.Service.ServiceMeta, m.Service.Connect, m.Service.Peer = s.Tags, s.NodeMeta, s.ServiceMeta, s.Connect, s.Peer
		m.Service.Failover.SkipLocalDatacenter, m.Service.Failover.NearestN, m.Service.Failover.Datacenters = f.SkipLocalDatacenter, f.NearestN, f.Datacenters
		for _, x := range f.Targets {
			m.Service.Failover.Targets = append(m.Service.Failover.Targets, struct{ Peer, Datacenter string }{x.Peer, x.Datacenter})
		}
		m.DNS.TTL = q.TTL
		equalJSON(t, q.AppendJSON(nil), m)
		equalJSON(t, q.JSON(), m)
		r := QueryResult{Service: s.Service, TTL: q.TTL, Datacenter: "dc1", Failovers: 2, Nodes: []ServiceInstance{{Node: genNode(t), Service: genService(t)}}}
		if b := append(r.AppendJSON(nil), '}'); !json.Valid(b) {
			t.Fatalf("result: %s", b)
		}
	})
	// As the spec shows it.
	q := &PreparedQuery{ID: "u", Name: "q1", TTL: "7s", Service: QueryService{Service: "api"}, CreateIndex: 253, ModifyIndex: 253}
	want := `{"ID":"u","Name":"q1","Session":"","Token":"","Template":{"Type":"","Regexp":"","RemoveEmptyTags":false},` +
		`"Service":{"Service":"api","SamenessGroup":"","Failover":{"SkipLocalDatacenter":false,"NearestN":0,"Datacenters":null,"Targets":null},"IncludeAll":false,` +
		`"OnlyPassing":false,"IgnoreCheckIDs":null,"Near":"","Tags":null,"NodeMeta":null,"ServiceMeta":null,"Connect":false,"Peer":""},` +
		`"DNS":{"TTL":"7s"},"CreateIndex":253,"ModifyIndex":253}`
	if got := string(q.JSON()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestQueryPrepare(t *testing.T) {
	long := strings.Repeat("n", MaxTemplateName+1)
	for _, c := range []struct {
		name   string
		change func(*PreparedQuery)
		want   string // "" = accepted
	}{
		{"plain", func(*PreparedQuery) {}, ""},
		{"unnamed", func(q *PreparedQuery) { q.Name = "" }, "Invalid prepared query: Must be bound to a session"},
		{"unnamed with a session", func(q *PreparedQuery) { q.Name, q.Session = "", "s" }, ""},
		{"catch-all", func(q *PreparedQuery) { q.Name, q.Template.Type = "", NamePrefixMatch }, ""},
		{"no service", func(q *PreparedQuery) { q.Service.Service = "" }, "Invalid prepared query: Must provide a Service name to query"},
		{"NearestN", func(q *PreparedQuery) { q.Service.Failover.NearestN = -1 }, "Invalid prepared query: Bad NearestN '-1', must be >= 0"},
		{"TTL", func(q *PreparedQuery) { q.TTL = "bad" }, `Invalid prepared query: Bad DNS TTL 'bad': time: invalid duration "bad"`},
		{"TTL below 0", func(q *PreparedQuery) { q.TTL = "-1s" }, "Invalid prepared query: DNS TTL '-1s' must be >= 0"},
		{"redacted token", func(q *PreparedQuery) { q.Token = "<hidden>" },
			"Invalid prepared query: Bad Token '<hidden>', it looks like a query definition with a redacted token was submitted"},
		{"targets and others", func(q *PreparedQuery) {
			q.Service.Failover = QueryFailover{NearestN: 1, Targets: []QueryTarget{{Datacenter: "dc2"}}}
		}, "Invalid prepared query: Targets cannot be populated with NearestN or Datacenters"},
		{"empty target", func(q *PreparedQuery) { q.Service.Failover.Targets = []QueryTarget{{}} },
			"Invalid prepared query: each of Targets names either a Datacenter or a Peer"},
		{"type", func(q *PreparedQuery) { q.Template.Type = "bogus" }, "raft apply failed: failed compiling template: Bad Template.Type 'bogus'"},
		{"regexp", func(q *PreparedQuery) { q.Template = QueryTemplate{Type: NamePrefixMatch, Regexp: "("} },
			"raft apply failed: failed compiling template: Bad Regexp: error parsing regexp: missing closing ): `(`"},
		{"variable", func(q *PreparedQuery) { q.Template.Type, q.Service.Tags = NamePrefixMatch, []string{"a", "${nope}"} },
			"raft apply failed: failed compiling template: Bad format '${nope}' in Service.Tags: unknown variable accessed: nope"},
		{"a plain query is no template", func(q *PreparedQuery) { q.Template.Regexp, q.Service.Near = "(", "${" }, ""},
		{"long template", func(q *PreparedQuery) { q.Name, q.Template.Type = long, NamePrefixMatch },
			"Invalid prepared query: the Name of a template has at most 1024 bytes, not 1025"},
		{"long plain name", func(q *PreparedQuery) { q.Name = long }, ""},
	} {
		cmd := &QueryCommand{Op: QueryCreate}
		cmd.Query.Name, cmd.Query.Service.Service = "q", "web"
		c.change(&cmd.Query)
		got := ""
		if err := cmd.Prepare(); err != nil {
			got = err.Error()
			if KindOf(err) != KindInvalid {
				t.Errorf("%s: kind %d", c.name, KindOf(err))
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRender(t *testing.T) {
	for _, c := range []struct{ template, regexp, name, s, want string }{
		{"geo-", "", "geo-db-main", "${name.full}|${name.prefix}|${name.suffix}", "geo-db-main|geo-|db-main"},
		{"GEO-", "", "geo-Db", "${name.prefix}|${name.suffix}", "GEO-|Db"},
		{"", "", "any", "${name.prefix}|${name.suffix}|${ name.full }", "|any|any"},
		{"geo", "", "geo", "<${name.suffix}>", "<>"},
		{"geo-", "^geo-(.*?)-([^-]+?)$", "geo-db-main", "${match(0)}|${match(1)}|${match( 2 )}|${match(3)}|", "geo-db-main|db|main||"},
		{"geo-", "^never$", "geo-db", "<${match(0)}${match(1)}>", "<>"},
		{"geo-", "", "geo-db", "<${match(0)}>", "<>"},
		{"x", "", "x", "${agent.segment}plain $ {} $$ }", "plain $ {} $$ }"},
		{"x", "", "xy", "$${name.full} ${name.suffix}", "${name.full} y"},
		{"x", "", "xy", "${name.suffix}${name.suffix}", "yy"},
		{"Ⱥ", "", "ⱥbc", "${name.suffix}", "bc"}, // folding changes the number of bytes
	} {
		q := &PreparedQuery{Name: c.template, Template: QueryTemplate{Type: NamePrefixMatch, Regexp: c.regexp}}
		q.Service = QueryService{Service: c.s, Near: c.s, Tags: []string{c.s}, IgnoreCheckIDs: []string{c.s}, Peer: c.s,
			NodeMeta: map[string]string{c.s: c.s}, ServiceMeta: map[string]string{"k": c.s},
			Failover: QueryFailover{Datacenters: []string{c.s}, Targets: []QueryTarget{{c.s, c.s}}}}
		q.TTL = c.s
		got, err := q.Render(c.name)
		if err != nil {
			t.Errorf("%q: %v", c.s, err)
			continue
		}
		want := q.Clone()
		w := c.want
		want.Service = QueryService{Service: w, Near: w, Tags: []string{w}, IgnoreCheckIDs: []string{w}, Peer: w,
			NodeMeta: map[string]string{c.s: w}, ServiceMeta: map[string]string{"k": w},
			Failover: QueryFailover{Datacenters: []string{w}, Targets: []QueryTarget{{w, w}}}}
		if diff := cmp.Diff(want, got, ignoreQueryCaches); diff != "" {
			t.Errorf("%q for %q (-want +got):\n%s", c.s, c.name, diff)
		}
		if q.Service.Service != c.s || q.Service.Tags[0] != c.s {
			t.Errorf("%q: rendering changed the template", c.s)
		}
	}
	for _, bad := range []string{"${", "a${name.full", "${}", "${name}", "${match}", "${match()}", "${match(-1)}", "${match(x)}", "${match(1)", "${name.full|}"} {
		q := &PreparedQuery{Template: QueryTemplate{Type: NamePrefixMatch}, Service: QueryService{Service: bad}}
		var e *Error
		if _, err := q.Render("x"); !errors.As(err, &e) || e.Kind != KindInvalid || !strings.Contains(e.Message, "Bad format '"+bad+"' in Service.Service") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	// Tags that became empty go only if the template says so.
	for _, remove := range []bool{false, true} {
		q := &PreparedQuery{Name: "a", Template: QueryTemplate{Type: NamePrefixMatch, RemoveEmptyTags: remove}}
		q.Service.Tags = []string{"${match(1)}", "x", "${name.suffix}"}
		got, err := q.Render("a")
		want := []string{"", "x", ""}
		if remove {
			want = []string{"x"}
		}
		if diff := cmp.Diff(want, got.Service.Tags); err != nil || diff != "" {
			t.Errorf("RemoveEmptyTags %v: %v\n%s", remove, err, diff)
		}
	}
}

func FuzzRender(f *testing.F) {
	f.Add("geo-", "^geo-(.*)$", "geo-db", "${match(1)}${name.suffix}")
	f.Add("", "", "", "$${${")
	f.Add("Ⱥ", "(", "ⱥ", "${match(99999999999999999999)}")
	f.Fuzz(func(t *testing.T, template, re, name, s string) {
		q := &PreparedQuery{Name: template, Template: QueryTemplate{Type: NamePrefixMatch, Regexp: re}}
		q.Service.Service = s
		if !strings.HasPrefix(strings.ToLower(name), strings.ToLower(template)) {
			return
		}
		if out, err := q.Render(name); err == nil && !strings.Contains(s, "${") && out.Service.Service != s {
			t.Fatalf("%q became %q", s, out.Service.Service)
		}
	})
}

func FuzzDecodeQuery(f *testing.F) {
	seed := &QueryCommand{Op: QueryCreate}
	seed.Query.Name, seed.Query.Template, seed.Query.Service = "q", QueryTemplate{Type: NamePrefixMatch, Regexp: "a"},
		QueryService{Service: "web", Tags: []string{"", "!b"}, NodeMeta: map[string]string{"k": "v"}, Failover: QueryFailover{NearestN: -1, Targets: []QueryTarget{{}}}}
	f.Add(seed.AppendWire(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = new(QueryExecute).DecodeWire(b)
		_ = new(QueryResult).DecodeWire(b)
		var c, again QueryCommand
		if c.DecodeWire(b) != nil {
			return
		}
		if err := again.DecodeWire(c.AppendWire(nil)); err != nil {
			t.Fatalf("second decoding: %v", err)
		}
		if diff := cmp.Diff(&c, &again, ignoreQueryCaches); diff != "" {
			t.Fatalf("second decoding differs:\n%s", diff)
		}
		if !json.Valid(c.Query.JSON()) {
			t.Fatalf("invalid JSON: %s", c.Query.JSON())
		}
		_ = c.Prepare()
	})
}
