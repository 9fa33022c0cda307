// Command landbridge-bench measures binaries that speak Consul's HTTP API, DNS and
// agent configuration, alone or two side by side: `lan` inside one datacenter on
// loopback, `wan` across datacenters whose links wanlink emulates. It starts whole
// clusters of real processes, loads them, and prints medians as a table;
// docs/benchmarks.md says what each scenario measures.
//
// All of it runs as scenarios (scenario.go) on clusters (cluster.go) of agents
// (node.go); lan_*.go and wan_*.go hold one scenario each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  landbridge-bench lan -a BINARY [-b BINARY] [flags]   inside a datacenter, on loopback
  landbridge-bench wan -a BINARY [-b BINARY] [flags]   across datacenters, on emulated links (root)

With -b the two take turns, scenario by scenario, so that both meet the same machine.
The table goes to standard output, progress to standard error.
"landbridge-bench lan -list" lists the scenarios, "landbridge-bench lan -h" the flags.

Exit status: 0 all was measured, 1 a scenario failed, 2 wrong usage, 130 interrupted.
`

// Exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its surroundings as arguments; it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "help") {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	suites := map[string]*suite{"lan": &lanSuite, "wan": &wanSuite}
	if len(args) == 0 || suites[args[0]] == nil {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	s := suites[args[0]]
	o, err := parseOptions(s, args[1:], stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "landbridge-bench %s: %v\n", s.name, err)
		return exitUsage
	case o.list:
		for _, sc := range s.scenarios {
			fmt.Fprintf(stdout, "%-8s %s\n", sc.name, sc.title)
		}
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	rec, err := measure(ctx, s, o, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "landbridge-bench %s: %v\n", s.name, err)
		return exitFailed
	}
	rec.writeTable(stdout)
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case len(rec.Failures) > 0:
		return exitFailed
	}
	return exitOK
}
