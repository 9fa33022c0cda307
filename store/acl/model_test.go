package acl

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// said is one rule of the reference.
type said struct {
	word, label, policy string
}

// naive decides by going through all rules, in the order the spec explains it.
func naive(rules []said, def bool, r Resource, name string, want string) bool {
	rank := map[string]int{"read": 1, "list": 2, "write": 3}
	fold := func(s string) string {
		if r.folds() {
			return strings.ToLower(s)
		}
		return s
	}
	name = fold(name)
	decide := func(match func(said) bool) (decided, allowed bool) {
		best, denied, any := 0, false, false
		for _, s := range rules {
			if match(s) {
				any = true
				denied = denied || s.policy == "deny"
				best = max(best, rank[s.policy])
			}
		}
		return any, !denied && best >= rank[want]
	}
	if any, ok := decide(func(s said) bool { return s.word == r.String() && fold(s.label) == name }); any {
		return ok
	}
	for n := len(name); n >= 0; n-- {
		if any, ok := decide(func(s said) bool { return s.word == r.String()+"_prefix" && fold(s.label) == name[:n] }); any {
			return ok
		}
	}
	return def
}

func TestAgainstReference(t *testing.T) {
	names := rapid.StringMatching(`[abAB/]{0,4}`)
	rapid.Check(t, func(t *rapid.T) {
		def := rapid.Bool().Draw(t, "default")
		var all []said
		var policies []*Rules
		for range rapid.IntRange(1, 3).Draw(t, "policies") {
			var text strings.Builder
			for range rapid.IntRange(0, 5).Draw(t, "rules") {
				s := said{word: rapid.SampledFrom([]string{"key", "key_prefix", "node", "node_prefix"}).Draw(t, "word"), label: names.Draw(t, "label")}
				s.policy = rapid.SampledFrom([]string{"deny", "read", "write", "list"}).Draw(t, "policy")
				if s.policy == "list" && strings.HasPrefix(s.word, "node") {
					s.policy = "read"
				}
				all = append(all, s)
				fmt.Fprintf(&text, "%s %q { policy = %q }\n", s.word, s.label, s.policy)
			}
			r, err := Parse(text.String())
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, r)
		}
		a := Compile(Defaults{Allow: def}, policies...)
		name := names.Draw(t, "name")
		for _, res := range []Resource{Key, Node} {
			for _, access := range []Access{Read, List, Write} {
				if res == Node && access == List {
					continue
				}
				if a.CanAll(res, access) && !a.Can(res, name, access) {
					t.Fatalf("%s:%s on all names, but not on %q; rules %v", res, access, name, all)
				}
				if got, want := a.Can(res, name, access), naive(all, def, res, name, access.String()); got != want {
					t.Fatalf("%s:%s on %q: %v, want %v; rules %v", res, access, name, got, want, all)
				}
			}
		}
		// Everything below a prefix is allowed exactly if each name that any rule
		// tells apart is.
		prefix := names.Draw(t, "prefix")
		want := naive(withoutExact(all), def, Key, prefix, "write")
		for _, s := range all {
			if strings.HasPrefix(s.word, "key") && strings.HasPrefix(s.label, prefix) {
				want = want && naive(sameKind(all, s), false, Key, s.label, "write")
			}
		}
		if got := a.CanBelow(Key, prefix, Write); got != want {
			t.Fatalf("below %q: %v, want %v; rules %v", prefix, got, want, all)
		}
		if got := a.CanBelow(Key, prefix, Write); got {
			for _, s := range all {
				for _, n := range []string{s.label, s.label + "b"} {
					if strings.HasPrefix(n, prefix) && !a.Can(Key, n, Write) {
						t.Fatalf("all below %q may be written, but not %q", prefix, n)
					}
				}
			}
		}
	})
}

func withoutExact(all []said) (out []said) {
	for _, s := range all {
		if s.word == "key_prefix" {
			out = append(out, s)
		}
	}
	return out
}

func sameKind(all []said, as said) (out []said) {
	for _, s := range all {
		if s.word == as.word && s.label == as.label {
			out = append(out, s)
		}
	}
	return out
}

// FuzzParse: no text stops the process, and what is taken can be compiled and asked.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{``, GlobalManagement, `{"key":{"a":{"policy":"write"}}}`, `key "a" { policy = "read" } key "a" { policy = "deny" }`,
		`operator = "read"`, `key "x" {`, `x = [[[`, `service "a" { policy = "read" intentions = "write" }`, "key \"\\u0000\" { policy = \"read\" }", `{"key":[{"a":[{"policy":"read"}]}]}`} {
		f.Add(seed, "a")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		a := Compile(Defaults{}, r)
		for res := range resources {
			w, l, rd := a.Can(res, name, Write), a.Can(res, name, List), a.Can(res, name, Read)
			if w && !l || l && !rd {
				t.Fatalf("%s %q: write %v, list %v, read %v", res, name, w, l, rd)
			}
			if a.CanBelow(res, name, Write) && res.Named() && !a.Can(res, name, Write) {
				t.Fatalf("%s: all below %q, but not itself", res, name)
			}
			if a.CanAll(res, Write) && !w {
				t.Fatalf("%s: all names may be written, but not %q", res, name)
			}
			if w && !a.CanSome(res, Write) {
				t.Fatalf("%s %q may be written, but no name may", res, name)
			}
		}
	})
}

func TestDecisionsAllocateNothing(t *testing.T) {
	a := compile(t, Defaults{}, benchRules())
	if n := testing.AllocsPerRun(100, func() {
		sink = a.Can(Key, "app/7/config/db", Write)
		sink = a.Can(Service, "service-3", Read)
		sink = a.CanBelow(Key, "app/7/", Write)
		sink = a.Can(Operator, "", Read)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var sink bool

func benchRules() string {
	var b strings.Builder
	b.WriteString(GlobalReadOnly)
	for i := range 50 {
		fmt.Fprintf(&b, "key_prefix \"app/%d/\" { policy = \"write\" }\nservice \"service-%d\" { policy = \"write\" }\n", i, i)
	}
	return b.String()
}

func BenchmarkCan(b *testing.B) {
	a := compile(b, Defaults{}, benchRules())
	b.ReportAllocs()
	for b.Loop() {
		sink = a.Can(Key, "app/7/config/db", Read)
	}
}

func BenchmarkCompile(b *testing.B) {
	r, err := Parse(benchRules())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		Compile(Defaults{}, r)
	}
}
