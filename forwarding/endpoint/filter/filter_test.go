package filter

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-bexpr/grammar"
	"pgregory.net/rapid"

	"landbridge/store"
)

type check struct{ id, status string }

type row struct {
	name   string
	port   int
	native bool
	tags   []string
	meta   map[string]string
	addrs  map[string]store.ServiceAddress
	checks []check
}

func schema() Schema[*row] {
	checks := Schema[check]{
		"CheckID": {Str: func(c check) string { return c.id }},
		"Status":  {Str: func(c check) string { return c.status }},
	}
	flat := Schema[*row]{
		"Name":            {Str: func(r *row) string { return r.name }},
		"Port":            {Int: func(r *row) int { return r.port }},
		"Connect.Native":  {Bool: func(r *row) bool { return r.native }},
		"Tags":            {List: func(r *row) []string { return r.tags }},
		"Meta":            {Map: func(r *row) map[string]string { return r.meta }},
		"TaggedAddresses": {Addrs: func(r *row) map[string]store.ServiceAddress { return r.addrs }},
		"Checks":          Rows(checks, func(r *row) []check { return r.checks }),
	}
	Embed(flat, "Service.", flat, func(r *row) *row { return r })
	return flat
}

var web = &row{
	name: "web", port: 80, native: true,
	tags:   []string{"v1", "primary"},
	meta:   map[string]string{"rack": "r1", "a.b": "dotted", "empty": ""},
	addrs:  map[string]store.ServiceAddress{"wan": {Address: "8.8.8.8", Port: 81}},
	checks: []check{{"c1", "passing"}, {"c2", "critical"}},
}

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		expr string
		want bool
	}{
		{`Name == web`, true},
		{`Name == "web"`, true},
		{`Name != web`, false},
		{`not Name == web`, false},
		{`Name == db or Port == 80`, true},
		{`Name == db or Port == 80 and Port == 81`, false},
		{`(Name == db or Port == 80) and not Port == 81`, true},
		{`eb in Name`, true},
		{`Name contains eb`, true},
		{`Name not contains eb`, false},
		{"Name matches `^w.b$`", true},
		{"Name not matches `^w.b$`", false},
		{`Port != 80`, false},
		{`Connect.Native == true`, true},
		{`v1 in Tags`, true},
		{`v in Tags`, false},
		{`Tags contains primary`, true},
		{`"v2" not in Tags`, true},
		{`Tags is empty`, false},
		{`Tags is not empty`, true},
		{`Meta.rack == r1`, true},
		{`Meta["a.b"] == dotted`, true},
		{`Meta.none == x`, false},
		{`Meta.none != x`, true},
		{`Meta.none not contains x`, true},
		{`rack in Meta`, true},
		{`Meta contains empty`, true},
		{`Meta is not empty`, true},
		{`TaggedAddresses.wan.Address == "8.8.8.8"`, true},
		{`TaggedAddresses.wan.Port == 81`, true},
		{`TaggedAddresses.lan.Port == 81`, false},
		{`TaggedAddresses.lan.Port != 81`, true},
		{`wan in TaggedAddresses`, true},
		{`Checks.Status == critical`, true},
		{`Checks.Status != passing`, true}, // any element
		{`Checks.Status == warning`, false},
		{`Checks is empty`, false},
		{`Service.Name == web`, true},
		{`Service.Meta.rack == r1`, true},
	} {
		p, err := Compile(tc.expr, schema())
		if err != nil {
			t.Errorf("%s: %v", tc.expr, err)
			continue
		}
		if got := p(web); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.expr, got, tc.want)
		}
	}
}

func TestErrors(t *testing.T) {
	const head = "Failed to create boolean expression evaluator: "
	for _, tc := range []struct{ expr, want string }{
		{`Bogus == 1`, head + `Selector "Bogus" is not valid`},
		{`Name.x == 1`, head + `Selector "Name.x" is not valid`},
		{`name == 1`, head + `Selector "name" is not valid`},
		{`Meta.a.b == 1`, head + `Selector "Meta.a.b" is not valid`},
		{`Checks.Bogus == 1`, head + `Selector "Checks.Bogus" is not valid`},
		{`TaggedAddresses.wan.Zone == 1`, head + `Selector "TaggedAddresses.wan.Zone" is not valid`},
		{`"/Name" == web`, head + `Selector "Name" is not valid`},
		{`Meta.x is empty`, head + `Invalid match operator "Is Empty" for selector "Meta.x"`},
		{`Name is nil`, head + `Invalid match operator "Is Nil" for selector "Name"`},
		{`Tags == v1`, head + `Invalid match operator "Equal" for selector "Tags"`},
		{`Port contains 8`, head + `Invalid match operator "Contains" for selector "Port"`},
		{`Port == many`, head + `Selector "Port" is a number`},
		{`Connect.Native == perhaps`, head + `Selector "Connect.Native" is true or false`},
		{`Name matches "("`, head + `Failed to compile regular expression "(": `},
		{`bad syntax`, head + `1:`},
		{`Port > 80`, head + `1:`},
		{`any Checks as c { c.Status == passing }`, head + `no match found`},
		{``, head},
		{`(Name == web`, head + `1:13 (12): rule "grouping": Unmatched parentheses`},
		{`Name == web) or Port == 80`, head + `1:12 (11): no match found`},
		{`not(Name == web)`, head + `1:`},
		{`Meta.(rack == r1)`, head + `1:`},
		{`(Name == web)and Port == 80`, head + `1:`},
		{`(Bogus == 1)`, head + `Selector "Bogus" is not valid`},
		{strings.Repeat("(", 8000), head},
		{strings.Repeat("(", 2000) + "Name", head},
		{strings.Repeat("x", maxLength+1), head + `expression of`},
	} {
		start := time.Now()
		_, err := Compile(tc.expr, schema())
		if err == nil {
			t.Errorf("%s: no error", tc.expr)
			continue
		}
		if store.KindOf(err) != store.KindInvalid {
			t.Errorf("%s: kind %d, want KindInvalid", tc.expr, store.KindOf(err))
		}
		if !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: got %q, want prefix %q", tc.expr, err, tc.want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%.20s: took %s", tc.expr, took)
		}
	}
}

func TestLargeExpressions(t *testing.T) {
	for _, expr := range []string{
		strings.Repeat("Name == db or ", 100) + "Name == web",
		strings.Repeat("(", 5000) + "Name == web and Port == 80" + strings.Repeat(")", 5000),
		strings.Repeat("not (", 1000) + "Name == web" + strings.Repeat(")", 1000),
		strings.Repeat("(Name == web) and ", 800) + "(Name == web)",
		`Name != "(" and (Name != ` + "`)`" + ` or Meta.qqq == 1) or Name == web`,
	} {
		p, err := Compile(expr, schema())
		if err != nil {
			t.Errorf("%.60s: %v", expr, err)
			continue
		}
		if !p(web) {
			t.Errorf("%.60s: no match", expr)
		}
	}
}

// Reading groups by themselves accepts and means what the grammar does in one piece.
func TestGroupsMeanTheSame(t *testing.T) {
	tokens := []string{"(", "(", ")", ")", "not ", " and ", " or ", "Name == web", "Port == 81", "Meta.rack == r1", "v1 in Tags", `Name != "("`, " ", "x"}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(tokens), 1, 14).Draw(t, "tokens"), "")
		ast, err := grammar.Parse("", []byte(text), grammar.MaxExpressions(5*maxSteps))
		if err != nil && strings.Contains(err.Error(), "max number of") {
			t.Skip("too deep for the grammar")
		}
		e, got := parse(text)
		if (err == nil) != (got == nil) {
			t.Fatalf("%s: %v, want %v", text, got, err)
		}
		if err != nil {
			return
		}
		want, err := build(ast.(grammar.Expression), schema())
		p, got := build(e, schema())
		if (err == nil) != (got == nil) {
			t.Fatalf("%s: %v, want %v", text, got, err)
		}
		if err == nil && (p(web) != want(web) || p(&row{}) != want(&row{})) {
			t.Fatalf("%s: means something else", text)
		}
	})
}

func FuzzCompile(f *testing.F) {
	f.Add(`Name == web and "v1" in Tags or not Meta.rack is empty`)
	f.Add(`Checks.Status != passing`)
	s := schema()
	f.Fuzz(func(t *testing.T, expr string) {
		if p, err := Compile(expr, s); err == nil {
			p(web)
			p(&row{})
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	p, err := Compile(`Service.Name == web and v1 in Tags and Meta.rack == r1`, schema())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p(web)
	}
}

func BenchmarkCompile(b *testing.B) {
	s := schema()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(`Service.Name == web and v1 in Tags and Meta.rack == r1`, s); err != nil {
			b.Fatal(err)
		}
	}
}
