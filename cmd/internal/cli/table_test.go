package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryCommand holds all commands to what the table promises.
func TestEveryCommand(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var scripts strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(b)
	}
	seen := map[string]bool{}
	for _, c := range newTable().commands {
		t.Run(c.name, func(t *testing.T) {
			if seen[c.name] {
				t.Error("it stands twice in the table")
			}
			seen[c.name] = true
			if c.synopsis == "" || strings.HasSuffix(c.synopsis, ".") {
				t.Errorf("synopsis %q", c.synopsis)
			}
			if !strings.Contains(c.help, "landbridge "+c.name) {
				t.Error("the help shows no example of it")
			}
			if !strings.Contains(scripts.String(), "landbridge "+c.name) {
				t.Error("no script runs it")
			}
			own, shared := c.flags()
			for _, f := range append(own, shared...) {
				if name, usage := flag.UnquoteUsage(f); usage == "" || !strings.Contains(usage, ".") || !isBool(f) && name == "value" {
					if _, ok := f.Value.(*choice); !ok {
						t.Errorf("-%s: usage %q, value %q", f.Name, usage, name)
					}
				}
			}
			var b bytes.Buffer
			c.printHelp(&b)
			for line := range strings.Lines(b.String()) {
				if n := len(strings.TrimRight(line, "\n")); n > 90 {
					t.Errorf("a line of %d columns: %s", n, line)
				}
			}
		})
	}
	for _, g := range newTable().groups {
		if len(newTable().words(g.name)) == 0 {
			t.Errorf("group %s has no commands", g.name)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args, positional, a  string
		dash, program, fails bool
	}{
		{args: "x y", positional: "x y"},
		{args: "-a 1 x", positional: "x", a: "1"},
		{args: "x -a 1", positional: "x", a: "1"},
		{args: "x --a=1 y", positional: "x y", a: "1"},
		{args: "x -- -a 1", positional: "x -a 1"},
		{args: "-- -a", positional: "-a"},
		{args: "x -", positional: "x -"},
		{args: "x -b", fails: true},
		{args: "x -b", positional: "x -b", dash: true},
		{args: "x -5 -a=2", positional: "x -5", a: "2", dash: true},
		{args: "-b x", fails: true, dash: true},
		{args: "x -h", fails: true, dash: true},
		{args: "x -a", fails: true},
		{args: "-a 1 x -a 2 -h -- y", positional: "x -a 2 -h -- y", a: "1", program: true},
		{args: "-a 1 -- -x -a 2", positional: "-x -a 2", a: "1", program: true},
		{args: "-b x", fails: true, program: true},
	} {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		fs.SetOutput(&bytes.Buffer{})
		a := fs.String("a", "", "")
		got, err := (&command{dashArgs: c.dash, program: c.program}).parse(fs, strings.Fields(c.args))
		if (err != nil) != c.fails {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if !c.fails && (strings.Join(got, " ") != c.positional || *a != c.a) {
			t.Errorf("%q: %q, -a %q; want %q, %q", c.args, got, *a, c.positional, c.a)
		}
	}
}

func TestColor(t *testing.T) {
	rows := [][]string{{"Node", "Status"}, {"aä", "failed"}, {"b", "alive"}}
	var b bytes.Buffer
	columns(&b, rows, func(row, _ int, s string) string {
		if row == 1 {
			return Env{Color: true}.paint(red, s)
		}
		return Env{}.paint(red, s)
	})
	want := "Node  Status\n\x1b[31maä\x1b[0m    \x1b[31mfailed\x1b[0m\nb     alive\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if got := printable("a\x1b[31mb\nc\x7f"); strings.ContainsAny(got, "\x1b\n\x7f") {
		t.Errorf("%q can change the terminal", got)
	}
}
