package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/cmd/internal/cli/logs"
	"landbridge/cmd/internal/config"
	"landbridge/federation/node"
	"landbridge/metrics"
	"landbridge/store/raftlog"
)

// stateLost is the exit code of a server whose Raft state is gone, or whose group
// has gone on without it (EX_CONFIG of sysexits.h): a service manager must not
// start it again.
const stateLost = 78

func agentCommand() *command {
	return &command{
		name:     "agent",
		synopsis: "Run an agent, server or client",
		help: `
Runs an agent until it is told to stop. Every machine of a datacenter runs one:
three or five of them as servers, which keep the state, the others as clients.
What is not said by flags comes from configuration files, in HCL or JSON; flags
win over files, later files over earlier ones, and lists are joined.

To try things out, alone and in memory:

    $ landbridge agent -dev

A server and a client of a datacenter:

    $ landbridge agent -server -bootstrap-expect=3 -data-dir=/var/lib/landbridge \
          -retry-join=10.0.1.10 -retry-join=10.0.1.11 -retry-join=10.0.1.12
    $ landbridge agent -data-dir=/var/lib/landbridge -retry-join=10.0.1.10

From files, and to check them first:

    $ landbridge validate /etc/landbridge
    $ landbridge agent -config-dir=/etc/landbridge

SIGHUP makes it read the files again. SIGINT and SIGTERM stop it; a client says
good-bye to the cluster before, a server does not, since it is expected back
(leave_on_terminate and skip_leave_on_interrupt change that). A second one stops
it at once.

Exits with 0 after a good-bye or a stop by SIGTERM, 1 after an error or a stop
by SIGINT without good-bye, 78 if a server's Raft state is gone or its Raft group
was recovered without it.`,
		setup: func(fs *flag.FlagSet) run {
			l := &config.Loader{}
			l.AddFlags(fs)
			return func(c *call) error {
				if len(c.args) > 0 {
					return failf("==> Unexpected extra arguments: %s", strings.Join(c.args, " "))
				}
				l.Credentials = c.Getenv("CREDENTIALS_DIRECTORY")
				return c.runAgent(l)
			}
		},
	}
}

// startError prints problems the way supervisors and people know them.
func startError(err error) error {
	code := 1
	if errors.Is(err, raftlog.ErrStateMissing) || errors.Is(err, raftlog.ErrOverruled) {
		code = stateLost
	}
	var b strings.Builder
	for _, e := range config.Problems(err) {
		b.WriteString("==> " + e.Error() + "\n")
	}
	return &exitError{code: code, text: b.String(), cause: err}
}

func (c *call) runAgent(l *config.Loader) error {
	cfg, warnings, err := l.Load()
	if err != nil {
		return startError(err)
	}
	if err := tryDefinitions(cfg); err != nil {
		return startError(err)
	}
	log, closeLog, err := openLog(c.Stdout, cfg)
	if err != nil {
		return startError(err)
	}
	defer closeLog()
	if f, ok := c.Stdout.(*os.File); ok && cfg.LogFile == "" && !cfg.LogJSON && logs.IsJournal(f, c.Getenv("JOURNAL_STREAM")) {
		log.Journal()
	}
	reg := metrics.NewRegistry()
	metrics.NewBuildInfo(reg, Release, Version)
	collectors, err := collectors(cfg, reg, log.Logger())
	if err != nil {
		log.Open()
		return startError(err)
	}
	defer runCollectors(collectors)()
	bridge, err := installBridge(cfg, reg, collectors)
	if err != nil {
		return startError(err)
	}
	a := &agentProcess{call: c, loader: l, cfg: cfg, tls: tlsFilesOf(cfg), log: log, bridge: bridge, warned: map[string]bool{}}
	a.warn(warnings)
	nc := nodeConfig(cfg, a.tls)
	if nc.NodeID == "" && nc.DataDir == "" {
		nc.NodeID = randomUUID() // an agent in memory has nowhere to keep one
	}
	nc.Logger, nc.LogStream = log.Logger(), log
	if cfg.ACL.AuditFile != "" {
		audit, err := logs.OpenFile(logs.FileConfig{Path: cfg.ACL.AuditFile, MaxBytes: cfg.LogRotateBytes, MaxAge: cfg.LogRotateDuration, MaxFiles: cfg.LogRotateMaxFiles})
		if err != nil {
			return startError(fmt.Errorf("acl.audit_file: %w", err))
		}
		defer audit.Close()
		nc.ACL.Audit = func(line []byte) error { _, err := audit.Write(line); return err }
	}
	nc.Registerer, nc.Gatherer, nc.MetricsSummary, nc.MetricsFollow = reg, bridge, bridge.Summary, bridge.Follow
	nc.Reload = a.reload
	checkEnvironment(&nc, c.Getenv)
	relaxTimers()
	superviseBy(&nc, c.Getenv)
	// Signals are caught from here on: one that comes while the node is built
	// waits for it.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Stop(signals)

	n, err := node.New(nc)
	if err != nil {
		log.Open()
		return startError(err)
	}
	if err := writePid(cfg.PidFile); err != nil {
		log.Open()
		return startError(errors.Join(err, n.Stop(c.ctx)))
	}
	if cfg.PidFile != "" {
		defer os.Remove(cfg.PidFile)
	}
	c.banner(cfg, nodeID(&nc))
	log.Open()
	life, end := context.WithCancel(c.ctx)
	var beside sync.WaitGroup
	defer func() { end(); beside.Wait() }()
	beside.Go(func() { bridge.Run(life) })
	if c.Getenv("GOGC") != "off" {
		beside.Go(func() { newMemoryKeeper().run(life) })
	}
	return a.supervise(n, signals)
}

// runner is what the process does with a node; tests put a fake in its place.
type runner interface {
	Run(ctx context.Context) error
	Leave(ctx context.Context) error
	Reload(ctx context.Context) error
}

// agentProcess is a running agent as its process sees it.
type agentProcess struct {
	*call
	loader *config.Loader
	cfg    *config.Config // as started with
	tls    tlsFiles       // in use
	log    *logs.Log
	bridge *metrics.Bridge

	reloading sync.Mutex
	warned    map[string]bool // warnings that were given; guarded by reloading once the node runs
}

// warn logs warnings about the configuration, each once in the process's life.
func (a *agentProcess) warn(list []string) {
	for _, w := range list {
		if !a.warned[w] {
			a.warned[w] = true
			a.log.Logger().Warn(w, "component", "agent")
		}
	}
}

// supervise runs the node and obeys signals until it has ended.
func (a *agentProcess) supervise(n runner, signals <-chan os.Signal) error {
	logger := a.log.Logger().With("component", "agent")
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	var tasks sync.WaitGroup // waited for, unless a second signal ends everything
	ended := make(chan error, 1)
	tasks.Go(func() { ended <- n.Run(ctx) })

	var told os.Signal          // the first signal to stop
	left := make(chan error, 1) // the outcome of a leave that a signal asked for
	leaving, failed := false, false
	reloads := make(chan struct{}, 1) // one runs, one may wait: more would read the same
	reload := func() {
		select {
		case reloads <- struct{}{}:
		default:
		}
	}
	if a.cfg.AutoReload {
		tasks.Go(func() {
			a.loader.Watch(ctx, func() {
				logger.Info("configuration files changed, reloading")
				reload()
			})
		})
	}
	tasks.Go(func() {
		for {
			select {
			case <-reloads:
			case <-ctx.Done():
				return
			}
			if err := n.Reload(ctx); err != nil {
				logger.Error("reload failed, going on as before", "err", err)
			}
		}
	})
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				logger.Info("caught signal, reloading", "signal", sig.String())
				reload()
			case told != nil:
				logger.Warn("caught signal again, stopping at once", "signal", sig.String())
				return exit(1)
			default:
				told = sig
				leaving = sig == syscall.SIGTERM && *a.cfg.LeaveOnTerminate || sig == syscall.SIGINT && !*a.cfg.SkipLeaveOnInterrupt
				logger.Info("caught signal, stopping", "signal", sig.String(), "leave", leaving)
				if !leaving {
					stop()
					break
				}
				tasks.Go(func() { left <- n.Leave(ctx) })
			}
		case err := <-left:
			if err != nil {
				logger.Error("could not leave, stopping all the same", "err", err)
				failed = true
				stop()
			}
		case err := <-ended:
			stop()
			tasks.Wait()
			switch {
			case err != nil:
				return startError(err)
			case failed, told == syscall.SIGINT && !leaving:
				return exit(1)
			}
			return nil
		}
	}
}

// reload loads the configuration again for the node, which applies it.
func (a *agentProcess) reload() (*node.Config, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	next, warnings, err := a.loader.Load()
	if err == nil {
		err = tryDefinitions(next)
	}
	if err != nil {
		return nil, errors.New(problems(err))
	}
	a.warn(warnings)
	nc := nodeConfig(next, tlsFilesOf(next))
	nc.Reloaded = func() { a.reloaded(next) }
	return &nc, nil
}

// reloaded takes over what the process holds itself, and names what cannot change
// while it runs.
func (a *agentProcess) reloaded(next *config.Config) {
	logger := a.log.Logger().With("component", "agent")
	_, restart := config.Diff(a.cfg, next)
	if restart = append(restart, a.tls.use(tlsFilesOf(next))...); len(restart) > 0 {
		logger.Warn("changed settings wait for a restart", "keys", strings.Join(restart, ","))
	}
	if a.bridge != nil {
		a.bridge.SetFilter(prefixFilter(next))
	}
	if level, err := config.ParseLevel(next.LogLevel); err == nil && level != a.log.Level() {
		a.log.SetLevel(level)
		logger.Info("log level changed", "level", strings.ToLower(next.LogLevel))
	}
}

// openLog makes the process's log: standard output, and a file and syslog if
// configured.
func openLog(stdout io.Writer, cfg *config.Config) (*logs.Log, func(), error) {
	level, err := config.ParseLevel(cfg.LogLevel)
	if err != nil {
		return nil, nil, err
	}
	out, end := stdout, func() {}
	if cfg.LogFile != "" {
		f, err := logs.OpenFile(logs.FileConfig{Path: cfg.LogFile, MaxBytes: cfg.LogRotateBytes, MaxAge: cfg.LogRotateDuration, MaxFiles: cfg.LogRotateMaxFiles})
		if err != nil {
			return nil, nil, err
		}
		out, end = io.MultiWriter(stdout, f), func() { f.Close() }
	}
	log := logs.New(out, level, cfg.LogJSON)
	if !cfg.EnableSyslog {
		return log, end, nil
	}
	facility, err := config.SyslogFacility(cfg.SyslogFacility)
	if err == nil {
		var stop func()
		if stop, err = log.Syslog(facility, "landbridge"); err == nil {
			return log, func() { stop(); end() }, nil
		}
	}
	end()
	return nil, nil, err
}

// installBridge takes over the process-wide metrics of raft, memberlist and serf.
func installBridge(cfg *config.Config, reg *prometheus.Registry, collectors []*metrics.Collector) (*metrics.Bridge, error) {
	host, err := os.Hostname()
	if err != nil {
		host = cfg.NodeName
	}
	t := cfg.Telemetry
	b := metrics.BridgeConfig{Prefix: t.MetricsPrefix, HostName: host, DisableHostname: t.DisableHostname,
		FilterDefault: t.FilterDefault, Registerer: reg, Gatherer: reg, Collectors: collectors}
	b.AllowedPrefixes, b.BlockedPrefixes = prefixFilter(cfg)
	return metrics.InstallBridge(b)
}

// prefixFilter takes telemetry.prefix_filter apart.
func prefixFilter(cfg *config.Config) (allowed, blocked []string) {
	for _, f := range cfg.Telemetry.PrefixFilter {
		if name := f[1:]; f[0] == '+' {
			allowed = append(allowed, name)
		} else {
			blocked = append(blocked, name)
		}
	}
	return allowed, blocked
}

// nodeID is the node's ID for the banner: as configured, or as the node keeps
// it in its data directory.
func nodeID(nc *node.Config) string {
	if nc.NodeID != "" || nc.DataDir == "" {
		return nc.NodeID
	}
	b, err := os.ReadFile(filepath.Join(nc.DataDir, "node-id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func writePid(path string) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("pid_file: %w", err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
		return fmt.Errorf("pid_file: %w", err)
	}
	return nil
}

// banner tells what is about to run.
func (c *call) banner(cfg *config.Config, id string) {
	_, date := build()
	c.printf("==> Starting Landbridge agent...\n")
	for _, line := range [][2]string{
		{"Version", fmt.Sprintf("'%s' (compatible with '%s')", Release, Version)},
		{"Build Date", fmt.Sprintf("'%s'", date)},
		{"Node ID", fmt.Sprintf("'%s'", id)},
		{"Node name", fmt.Sprintf("'%s'", printable(cfg.NodeName))},
		{"Datacenter", fmt.Sprintf("'%s' (Segment: '<all>')", cfg.Datacenter)},
		{"Server", fmt.Sprintf("%t (Bootstrap: %t)", cfg.Server, cfg.Bootstrap)},
		{"Client Addr", fmt.Sprintf("[%s] (HTTP: %d, HTTPS: %d, DNS: %d)", cfg.ClientAddr, cfg.Ports.HTTP, cfg.Ports.HTTPS, cfg.Ports.DNS)},
		{"Cluster Addr", fmt.Sprintf("%s (LAN: %d, WAN: %d)", cfg.LAN, cfg.Ports.SerfLAN, cfg.Ports.SerfWAN)},
		{"Gossip Encryption", fmt.Sprint(cfg.Key != nil)},
	} {
		c.printf("%21s: %s\n", line[0], line[1])
	}
	c.printf("\n==> Log data will now stream in as it occurs:\n\n")
}
