package nearest

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"members", "members", 0},
		{"memebrs", "members", 1}, {"kitten", "sitting", 3}, {"ca", "ac", 1}, {"datacentre", "datacenter", 1},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := Distance(c.b, c.a); got != c.want {
			t.Errorf("Distance(%q, %q) = %d, want %d: not symmetric", c.b, c.a, got, c.want)
		}
	}
}

func TestWord(t *testing.T) {
	words := []string{"agent", "members", "kv", "catalog", "bootstrap", "bootstrap_expect"}
	for _, c := range []struct {
		word, want string
		near       bool
	}{
		{"memebrs", "members", true},
		{"agnet", "agent", true},
		{"bootstrap_expct", "bootstrap_expect", true},
		{"cat", "catalog", true},
		{"zzzzzzzzzzzz", "", false},
	} {
		got, near := Word(c.word, words)
		if near != c.near || near && got != c.want {
			t.Errorf("Word(%q) = %q, %v, want %q, %v", c.word, got, near, c.want, c.near)
		}
	}
	if _, near := Word("x", nil); near {
		t.Error("a word is near to nothing")
	}
}
