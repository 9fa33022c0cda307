package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// options is the command line after the subcommand.
type options struct {
	binaries  []*binary // A, and B if there is one; described by describe
	scenarios []scenario
	list      bool
	out       string // result file; "" for none
	add       bool
	rounds    int
	quick     bool
	keep      bool
	tmp       string
	lock      string
	nice      int
	conf      map[string]any // more configuration keys for every agent
	// Of wan only.
	wanlink    string
	congestion string // TCP congestion control of the emulated hosts
}

// parseOptions reads a subcommand's flags. It returns flag.ErrHelp after -h, and
// other errors in words for the user.
func parseOptions(s *suite, args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("landbridge-bench "+s.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told by the caller, once
	var path, label, join [2]string
	for i, x := range []string{"a", "b"} {
		X := strings.ToUpper(x)
		fs.StringVar(&path[i], x, "", map[string]string{"a": "`binary` A (required)", "b": "`binary` B, which takes turns with A"}[x])
		fs.StringVar(&label[i], "label-"+x, "", X+"'s `name` in tables (default: the file's name)")
		if s == &wanSuite {
			fs.StringVar(&join[i], "wanjoin-"+x, "", "`arguments` of "+X+" that join a datacenter, before the address (default \"wan join\" for landbridge, \"join -wan\" for others)")
		}
	}
	only := fs.String("only", "", "comma-separated `scenarios`, such as "+s.example+" (default: all)")
	conf := fs.String("conf", "", "`JSON` object of more configuration keys for every agent, such as {\"enable_debug\":true}")
	fs.BoolVar(&o.list, "list", false, "list the scenarios and end")
	fs.StringVar(&o.out, "out", "", "result `file` (JSON), written after each run of a scenario; figures of scenarios that are not run again stay in it")
	fs.BoolVar(&o.add, "add", false, "add rounds to those already in -out instead of replacing them")
	fs.IntVar(&o.rounds, "rounds", 2, "`rounds` of each scenario, 1 to 20; A and B take turns in each")
	fs.BoolVar(&o.quick, "quick", false, "one round of short loads and small sizes, to see that it works; its figures are worth little")
	fs.BoolVar(&o.keep, "keep", false, "keep the agents' logs, configuration and data (always kept after a failure)")
	fs.StringVar(&o.tmp, "tmp", "", "`directory` for the agents' data, on a disk (default: the system's)")
	fs.StringVar(&o.lock, "lock", "", "`file` that is locked (flock) during each run of a scenario, to keep others from measuring meanwhile")
	fs.IntVar(&o.nice, "nice", 0, "scheduling `priority` of load and agents, -20 to 19; below 0 (root) on a busy machine")
	if s == &wanSuite {
		fs.StringVar(&o.wanlink, "wanlink", "", "the wanlink `binary` (default: beside this one, or in PATH)")
		fs.StringVar(&o.congestion, "cc", "cubic", "TCP congestion `control` of the emulated hosts; bbr is far faster where packets get lost, so name it with the result")
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(stderr, "usage: landbridge-bench %s -a BINARY [-b BINARY] [flags]\n\n%s\n\n", s.name, s.about)
			fs.SetOutput(stderr)
			fs.PrintDefaults()
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.list {
		return o, nil
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if *conf != "" {
		if err := json.Unmarshal([]byte(*conf), &o.conf); err != nil {
			return nil, fmt.Errorf("-conf: want a JSON object: %w", err)
		}
	}
	var err error
	if o.scenarios, err = s.pick(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	return o, o.describe(path, label, join)
}

// check refuses values that can mean nothing.
func (o *options) check() error {
	if o.rounds < 1 || o.rounds > 20 {
		return fmt.Errorf("-rounds %d: want 1 to 20", o.rounds)
	}
	if o.nice < -20 || o.nice > 19 {
		return fmt.Errorf("-nice %d: want -20 to 19", o.nice)
	}
	if o.add && o.out == "" {
		return errors.New("-add: name the file to add to with -out")
	}
	if _, err := os.Stat(filepath.Dir(o.out)); err != nil { // or we would know after minutes
		return fmt.Errorf("-out: %w", err)
	}
	if o.quick {
		o.rounds = 1
	}
	return nil
}

// describe looks at the binaries.
func (o *options) describe(path, label, join [2]string) error {
	if path[0] == "" {
		return errors.New("-a: name the binary to measure")
	}
	for i := range path {
		if path[i] == "" {
			continue
		}
		if label[i] == "" {
			label[i] = filepath.Base(path[i])
		}
		b, err := describe(label[i], path[i], join[i])
		if err != nil {
			return fmt.Errorf("-%c: %w", 'a'+i, err)
		}
		o.binaries = append(o.binaries, b)
	}
	if label[0] == label[1] {
		return fmt.Errorf("both binaries are called %q: tell them apart with -label-a and -label-b", label[0])
	}
	return nil
}
