package cli

import "testing"

func TestProgressBar(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		count       int
		want        string
	}{
		{0, 10, 0, "keys      [                                        ]   0%          0"},
		{5, 10, 1234, "keys      [====================                    ]  50%       1234"},
		{10, 10, 7, "keys      [========================================] 100%          7"},
		{11, 10, 7, "keys      [========================================] 100%          7"},
		{1 << 62, 1 << 62, 1, "keys      [========================================] 100%          1"},
	} {
		got := progressBar("keys", c.done, c.total, c.count)
		if got != c.want {
			t.Errorf("%d of %d:\n%q, want\n%q", c.done, c.total, got, c.want)
		}
		if len(got) > 79 {
			t.Errorf("%d columns: it does not fit a terminal", len(got))
		}
	}
}
