package check

import (
	"testing"

	"pgregory.net/rapid"

	"landbridge/store"
)

const p, w, f = store.Passing, store.Warning, store.Critical

func TestThresholds(t *testing.T) {
	for name, c := range map[string]struct {
		passing, warning, critical int
		results                    []string
		want                       []string // "" = unchanged
	}{
		"none":                     {0, 0, 0, []string{f, p, w, f}, []string{f, p, w, f}},
		"first success at once":    {3, 0, 0, []string{p}, []string{p}},
		"passing needs three":      {3, 0, 0, []string{f, p, p, p}, []string{f, "", "", p}},
		"a failure starts again":   {2, 0, 0, []string{f, p, f, p, p}, []string{f, "", f, "", p}},
		"critical needs three":     {0, 0, 3, []string{p, f, f, f}, []string{p, "", "", f}},
		"warning before critical":  {0, 2, 3, []string{p, f, f, f}, []string{p, "", w, f}},
		"warnings are no failures": {0, 0, 2, []string{f, w, f}, []string{"", w, ""}},
		"warnings count as passed": {2, 0, 0, []string{f, w, p, w}, []string{f, "", p, w}},
	} {
		th := NewThresholds(c.passing, c.warning, c.critical)
		for i, r := range c.results {
			if got := th.Take(r); got != c.want[i] {
				t.Errorf("%s: after %v got %q, want %q", name, c.results[:i+1], got, c.want[i])
			}
		}
	}
}

// TestThresholdsModel reads the rules off the whole history: a result is one of a
// run of failures or of a run of successes, and the length of that run decides.
func TestThresholdsModel(t *testing.T) {
	model := func(passing, warning, critical int, history []string) string {
		last := history[len(history)-1]
		failed, run, before := last == f, 0, false
		for i := len(history) - 1; i >= 0; i-- {
			if (history[i] == f) != failed {
				before = true // a run of the other kind came before this one
				break
			}
			run++
		}
		switch {
		case failed && run >= max(critical, 1):
			return f
		case failed && warning > 0 && run >= warning:
			return w
		case failed:
			return ""
		case before && run < passing:
			return ""
		}
		return last
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 4)
		passing, critical := n.Draw(t, "success_before_passing"), n.Draw(t, "failures_before_critical")
		warning := rapid.IntRange(0, critical).Draw(t, "failures_before_warning")
		results := rapid.SliceOfN(rapid.SampledFrom([]string{p, w, f, f}), 1, 30).Draw(t, "results")
		th := NewThresholds(passing, warning, critical)
		status := ""
		for i, r := range results {
			got, want := th.Take(r), model(passing, warning, critical, results[:i+1])
			if got != want {
				t.Fatalf("after %v: got %q, want %q", results[:i+1], got, want)
			}
			if got != "" {
				status = got
			}
			// Whatever the numbers, enough of the same always wins.
			if i >= 4 && allSame(results[i-4:i+1]) && status != r {
				t.Fatalf("%v and still %q", results[:i+1], status)
			}
		}
	})
}

func allSame(list []string) bool {
	for _, s := range list {
		if s != list[0] {
			return false
		}
	}
	return true
}
