package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
	"landbridge/store"
)

// notSafe is the exit code of upgrade-check when the server must not be stopped now.
const notSafe = 2

func upgradeCheck() *command {
	return &command{
		name:     "operator upgrade-check",
		synopsis: "Say whether a server may be stopped now, and which versions run",
		help: `
Asks an agent about the servers of its datacenter, and says whether one of them,
the asked one unless -node names another, may be stopped now without harm: there
is a leader, the others keep a majority, autopilot finds all of them healthy and
none is behind, and their versions go together with each other and with this
command's, which is the one to install.

    $ landbridge operator upgrade-check
    $ landbridge operator upgrade-check -node=eu2 -format=json

In a script, wait until it is safe, and go on to the next server:

    $ landbridge operator upgrade-check -wait=5m && systemctl restart landbridge

Exits with 0 if it is safe, with 2 if it is not, and with 1 if the agent could
not be asked.`,
		setup: func(fs *flag.FlagSet) run {
			node := fs.String("node", "", "The server to stop (default: the asked agent). `NAME`")
			wait := fs.Duration("wait", 0, "Ask again until it is safe, for so long. `DURATION`")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if *wait < 0 {
					return usagef("-wait is %s: it must not be negative", *wait)
				}
				if api.opts.Datacenter != "" {
					return failf("-datacenter %q: gossip tells of an agent's own datacenter only; ask one of that datacenter (-http-addr)", api.opts.Datacenter)
				}
				cl, err := api.noArgs(c)
				if err != nil {
					return err
				}
				r, err := waitUpgrade(c.ctx, cl, *node, *wait)
				if err != nil {
					return failf("Error asking about the servers: %w", err)
				}
				if *format == "json" {
					if err := c.printJSON(r); err != nil {
						return err
					}
				} else {
					c.printUpgrade(r)
				}
				if !r.Safe {
					return exit(notSafe)
				}
				return nil
			}
		},
	}
}

// UpgradeReport is the answer of upgrade-check, as -format=json prints it.
type UpgradeReport struct {
	Safe       bool // all checks are OK
	Datacenter string
	Node       string // the server that would be stopped
	Leader     bool   // it leads now: it hands over when it is stopped
	Installs   UpgradeVersions
	Checks     []UpgradeCheck
	Servers    []UpgradeServer
}

// UpgradeVersions are those of one release.
type UpgradeVersions struct {
	Release              string
	Wire, Commands, Disk int // 0: it does not say
}

// UpgradeCheck is one of the things that must hold. Text says what was found.
type UpgradeCheck struct {
	Name string
	OK   bool
	Text string
}

// UpgradeServer is a server of the datacenter.
type UpgradeServer struct {
	Name, Address string
	UpgradeVersions
	RaftProtocol string
	Status       string // what gossip says
	Voter        bool
	Leader       bool
	Healthy      bool
	Behind       uint64 // entries that the leader has and it has not
}

// upgradeFacts is what a report is made of.
type upgradeFacts struct {
	self struct {
		Config struct {
			Datacenter, NodeName string
			Server               bool
		}
	}
	members   []client.Member
	raft      client.RaftConfiguration
	pilot     client.AutopilotState
	pilotConf client.AutopilotConfig
	leaderErr error // why there is no raft, pilot and pilotConf
}

// waitUpgrade asks until it is safe, for at most wait; what an agent that restarts
// does not answer is asked again, too.
func waitUpgrade(ctx context.Context, cl *client.Client, node string, wait time.Duration) (*UpgradeReport, error) {
	deadline := time.Now().Add(wait)
	for {
		r, err := askUpgrade(ctx, cl, node)
		if err == nil && r.Safe || time.Now().After(deadline) || ctx.Err() != nil {
			return r, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// askUpgrade asks once.
func askUpgrade(ctx context.Context, cl *client.Client, node string) (*UpgradeReport, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var f upgradeFacts
	if err := cl.Get(ctx, "/v1/agent/self", nil, &f.self); err != nil {
		return nil, err
	}
	if err := cl.Get(ctx, "/v1/agent/members", nil, &f.members); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		path string
		to   any
	}{
		{"/v1/operator/raft/configuration", &f.raft},
		{"/v1/operator/autopilot/state", &f.pilot},
		{"/v1/operator/autopilot/configuration", &f.pilotConf},
	} {
		if err := cl.Get(ctx, part.path, nil, part.to); err != nil {
			var status *client.StatusError
			if errors.As(err, &status) && status.Code < 500 {
				return nil, err // no right to ask: nothing is known of the leader
			}
			f.leaderErr = err
			break
		}
	}
	return judgeUpgrade(&f, node)
}

// judgeUpgrade says whether node may be stopped.
func judgeUpgrade(f *upgradeFacts, node string) (*UpgradeReport, error) {
	self := f.self.Config
	if node == "" {
		if node = self.NodeName; !self.Server {
			return nil, fmt.Errorf("%s is a client agent, which may be stopped at any time; -node names the server that is meant", node)
		}
	}
	r := &UpgradeReport{Datacenter: self.Datacenter, Node: node,
		Installs: UpgradeVersions{Release, store.WireVersion, store.CommandVersion, store.DiskVersion}}
	r.Servers = f.servers()
	at := slices.IndexFunc(r.Servers, func(s UpgradeServer) bool { return s.Name == node })
	if at < 0 {
		return nil, fmt.Errorf("node %q is not a server of datacenter %s", node, self.Datacenter)
	}
	it := r.Servers[at]
	r.Leader = it.Leader
	r.check("leader")(f.checkLeader(r.Servers))
	r.check("quorum")(checkQuorum(r.Servers, it))
	r.check("health")(f.checkHealth(r.Servers, node))
	r.check("behind")(f.checkBehind(r.Servers, node))
	r.check("raft protocol")(checkProtocol(r.Servers))
	r.check("versions")(checkVersions(r.Servers, r.Installs))
	r.Safe = !slices.ContainsFunc(r.Checks, func(c UpgradeCheck) bool { return !c.OK })
	return r, nil
}

// check takes the outcome of a check: what was found, or what is wrong.
func (r *UpgradeReport) check(name string) func(found, wrong string) {
	return func(found, wrong string) {
		r.Checks = append(r.Checks, UpgradeCheck{name, wrong == "", cmp.Or(wrong, found)})
	}
}

// servers joins what gossip, Raft and autopilot tell of the servers: all that are in
// the Raft group, and those that gossip knows and that did not leave.
func (f *upgradeFacts) servers() []UpgradeServer {
	var list []UpgradeServer
	at := map[string]int{}
	for _, m := range f.members {
		if m.Tags["role"] != "consul" || statusText(m.Status) == "left" {
			continue
		}
		number := func(tag string) int { n, _ := strconv.Atoi(m.Tags[tag]); return n }
		_, release, _ := strings.Cut(m.Tags["build"], ":")
		at[m.Tags["id"]] = len(list)
		list = append(list, UpgradeServer{
			Name: m.Name, Address: m.Addr, Status: statusText(m.Status), RaftProtocol: m.Tags["raft_vsn"],
			UpgradeVersions: UpgradeVersions{release, number("lb_rpc"), number("lb_cmd"), number("lb_disk")},
		})
	}
	var last uint64
	for _, s := range f.raft.Servers {
		if s.Leader {
			last = s.LastIndex
		}
	}
	for _, s := range f.raft.Servers {
		i, ok := at[s.ID]
		if !ok {
			i = len(list)
			list = append(list, UpgradeServer{Name: s.Node, Address: s.Address, Status: "unknown"})
		}
		l := &list[i]
		l.Voter, l.Leader, l.Healthy = s.Voter, s.Leader, f.pilot.Servers[s.ID].Healthy
		if last > s.LastIndex {
			l.Behind = last - s.LastIndex
		}
	}
	slices.SortFunc(list, func(a, b UpgradeServer) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (f *upgradeFacts) checkLeader(servers []UpgradeServer) (found, wrong string) {
	if f.leaderErr != nil {
		return "", "no leader answers: " + f.leaderErr.Error()
	}
	for _, s := range servers {
		if s.Leader {
			return s.Name + " leads", ""
		}
	}
	return "", "no server leads"
}

func checkQuorum(servers []UpgradeServer, without UpgradeServer) (found, wrong string) {
	voters, left := 0, 0
	for _, s := range servers {
		if s.Voter {
			voters++
			if s.Healthy && s.Name != without.Name {
				left++
			}
		}
	}
	need := voters/2 + 1
	text := fmt.Sprintf("without %s %s of %d would be healthy, %d are needed", without.Name, plural(uint64(left), "voter"), voters, need)
	if left < need {
		return "", text
	}
	return text, ""
}

// checkHealth leaves out the server that would be stopped: that it is sick is no
// reason to go on running it.
func (f *upgradeFacts) checkHealth(servers []UpgradeServer, node string) (found, wrong string) {
	var sick []string
	for _, s := range servers {
		if !s.Healthy && s.Name != node {
			sick = append(sick, fmt.Sprintf("%s (gossip: %s)", s.Name, s.Status))
		}
	}
	if len(sick) > 0 {
		return "", "not healthy: " + strings.Join(sick, ", ")
	}
	return "autopilot finds all other servers healthy", ""
}

// checkBehind leaves it out likewise.
func (f *upgradeFacts) checkBehind(servers []UpgradeServer, node string) (found, wrong string) {
	limit := f.pilotConf.MaxTrailingLogs
	var behind []string
	for _, s := range servers {
		if s.Name != node && s.Behind > limit {
			behind = append(behind, fmt.Sprintf("%s by %d", s.Name, s.Behind))
		}
	}
	if len(behind) > 0 {
		return "", fmt.Sprintf("behind the leader by more than %d entries: %s", limit, strings.Join(behind, ", "))
	}
	return fmt.Sprintf("no other server is behind the leader by more than %d entries", limit), ""
}

func checkProtocol(servers []UpgradeServer) (found, wrong string) {
	var other []string
	for _, s := range servers {
		if s.RaftProtocol != "3" {
			other = append(other, fmt.Sprintf("%s has %q", s.Name, s.RaftProtocol))
		}
	}
	if len(other) > 0 {
		return "", "all servers must have 3: " + strings.Join(other, ", ")
	}
	return "3 on all servers", ""
}

// checkVersions compares what runs with what is installed: neighbouring versions of
// the wire understand each other, and nobody reads files of a later version.
func checkVersions(servers []UpgradeServer, install UpgradeVersions) (found, wrong string) {
	var bad []string
	releases := map[string]int{}
	low := install
	for _, s := range servers {
		releases[cmp.Or(s.Release, "(unknown)")]++
		switch {
		case s.Wire == 0 || s.Commands == 0:
			bad = append(bad, s.Name+" does not say its versions")
			continue
		case max(s.Wire-install.Wire, install.Wire-s.Wire) > 1:
			bad = append(bad, fmt.Sprintf("%s speaks version %d of the wire, this release %d: install one in between first", s.Name, s.Wire, install.Wire))
		case s.Disk > install.Disk:
			bad = append(bad, fmt.Sprintf("%s writes version %d to its disk, this release reads up to %d", s.Name, s.Disk, install.Disk))
		case s.Commands > install.Commands:
			bad = append(bad, fmt.Sprintf("%s has version %d of the commands, this release %d: it would stop at a newer one", s.Name, s.Commands, install.Commands))
		}
		low.Commands = min(low.Commands, s.Commands)
	}
	if len(bad) > 0 {
		return "", strings.Join(bad, "; ")
	}
	var runs []string
	for _, rel := range slices.Sorted(maps.Keys(releases)) {
		runs = append(runs, fmt.Sprintf("%s on %d", rel, releases[rel]))
	}
	found = fmt.Sprintf("%s; this is %s", strings.Join(runs, ", "), install.Release)
	if low.Commands < install.Commands {
		found += fmt.Sprintf("; commands of version %d are used when all servers have them", install.Commands)
	}
	return found, ""
}

func (c *call) printUpgrade(r *UpgradeReport) {
	rows := [][]string{{"Server", "Address", "Release", "Wire", "Commands", "Disk", "Raft", "Role", "Healthy", "Behind"}}
	for _, s := range r.Servers {
		role := "not voting"
		switch {
		case s.Leader:
			role = "leader"
		case s.Voter:
			role = "voter"
		}
		number := func(n int) string {
			if n == 0 {
				return "-"
			}
			return strconv.Itoa(n)
		}
		rows = append(rows, []string{printable(s.Name), printable(s.Address), printable(cmp.Or(s.Release, "-")), number(s.Wire), number(s.Commands), number(s.Disk),
			printable(cmp.Or(s.RaftProtocol, "-")), role, strconv.FormatBool(s.Healthy), strconv.FormatUint(s.Behind, 10)})
	}
	columns(c.Stdout, rows, nil)
	c.println()
	rows = nil
	for _, k := range r.Checks {
		word := "ok"
		if !k.OK {
			word = "NO"
		}
		rows = append(rows, []string{word, k.Name, printable(k.Text)})
	}
	columns(c.Stdout, rows, func(row, col int, s string) string {
		switch {
		case col != 0:
			return s
		case s == "ok":
			return c.paint(green, s)
		}
		return c.paint(red, s)
	})
	switch {
	case !r.Safe:
		c.printf("\nDo not stop %s now.\n", printable(r.Node))
	case r.Leader:
		c.printf("\n%s may be stopped. It leads: it hands over when it is stopped, so best take it last.\n", printable(r.Node))
	default:
		c.printf("\n%s may be stopped.\n", printable(r.Node))
	}
}
