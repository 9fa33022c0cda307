package federationtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"landbridge/federation/node"
	"landbridge/store"
	"landbridge/store/raftlog/raftlogtest"
)

// callTimeout ends a call to an agent that does not answer.
const callTimeout = 90 * time.Second

// Host is a machine with one agent.
type Host struct {
	Name string

	f      *Federation
	dc     *Datacenter
	server bool
	addr   netip.Addr
	dir    string            // data_dir
	disk   *raftlogtest.Disk // outlives the agent
	log    tail

	mu  sync.Mutex
	run *run // nil when the agent does not run
	old []*run
}

// run is one life of the agent.
type run struct {
	life   *life
	node   *node.Node
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run; set before done is closed
	asked  bool  // to end; guarded by the host's mu
}

func (h *Host) hosts() []*Host { return []*Host{h} }

// DC is the datacenter the host is in.
func (h *Host) DC() *Datacenter { return h.dc }

func (h *Host) serverAddr() string { return netip.AddrPortFrom(h.addr, serverPort).String() }

// config is what the agent's configuration files would say, with the defaults of
// cmd/internal/config.
func (h *Host) config(l *life) node.Config {
	reg := prometheus.NewRegistry()
	c := node.Config{
		NodeName: h.Name, Datacenter: h.dc.Name, Domain: "consul", Version: "1.21.4", Release: "test",
		Server: h.server, DataDir: h.dir,
		BindAddr: h.addr, AdvertiseLAN: h.addr,
		Ports:          node.Ports{DNS: -1, HTTP: -1, HTTPS: -1, GRPC: -1, GRPCTLS: -1, SerfLAN: serfLANPort, SerfWAN: serfWANPort, Server: serverPort},
		ConnectEnabled: true, EnrollByKey: true,
		RetryInterval: 30 * time.Second, RetryIntervalWAN: 30 * time.Second,
		LeaveDrainTime: 5 * time.Second, ReconnectTimeoutLAN: 72 * time.Hour, ReconnectTimeoutWAN: 72 * time.Hour,
		EncryptKey:     h.dc.spec.key,
		RaftMultiplier: 5, RPCHoldTimeout: 7 * time.Second,
		RaftSnapshotThreshold: 16384, RaftSnapshotInterval: 30 * time.Second, RaftTrailingLogs: 10240,
		Autopilot: store.AutopilotConfig{
			CleanupDeadServers: true, LastContactThreshold: int64(200 * time.Millisecond),
			MaxTrailingLogs: 250, ServerStabilizationTime: int64(10 * time.Second),
		},
		Limits: node.Limits{
			HTTPMaxConnsPerClient: 200, RPCHandshakeTimeout: 5 * time.Second, RPCMaxConnsPerClient: 100,
			RPCClientTimeout: time.Minute, KVMaxValueSize: 512 << 10, TxnMaxReqLen: 512 << 10,
		},
		HTTP: node.HTTP{UseCache: true}, UseStreaming: true,
		DefaultQueryTime: 5 * time.Minute, MaxQueryTime: 10 * time.Minute, DiscoveryMaxStale: 0,
		CheckUpdateInterval: 5 * time.Minute, CheckOutputMaxSize: 4096,
		Logger: h.log.logger(h.f.start), Registerer: reg, Gatherer: reg, Network: l,
	}
	if h.server {
		c.BootstrapExpect = h.dc.spec.servers
	}
	for _, peer := range h.dc.Servers() {
		c.RetryJoinLAN = append(c.RetryJoinLAN, netip.AddrPortFrom(peer.addr, serfLANPort).String())
	}
	for _, edit := range h.dc.spec.edits {
		edit(&c)
	}
	return c
}

// launch starts the agent; it answers calls from now on, with an error until it
// is ready.
func (h *Host) launch() {
	h.f.T.Helper()
	l := &life{net: h.f.net, addr: h.addr, dir: h.dir, disk: h.disk}
	n, err := node.New(h.config(l))
	if err != nil {
		h.f.T.Fatalf("at %s: %s: %v", h.f.Now(), h.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{life: l, node: n, cancel: cancel, done: make(chan struct{})}
	h.mu.Lock()
	h.run = r
	h.mu.Unlock()
	go func() {
		err := n.Run(ctx)
		r.err = err
		h.mu.Lock()
		unasked := !r.asked
		if h.run == r {
			h.run = nil
		}
		h.mu.Unlock()
		if unasked {
			h.f.T.Errorf("at %s: the agent of %s ended by itself: %v", h.f.Now(), h.Name, err)
		}
		close(r.done)
	}()
}

// Running says whether the agent runs.
func (h *Host) Running() bool { return h.current() != nil }

func (h *Host) current() *run {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.run
}

// ask notes that the agent is to end, and takes it.
func (h *Host) ask() *run {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.run
	if r != nil {
		r.asked = true
	}
	return r
}

// Crash takes the host's power away: its agent is gone at once and nobody is told.
// What its disk has not written then is lost.
func (h *Host) Crash() {
	h.f.T.Helper()
	r := h.ask()
	if r == nil {
		h.f.T.Fatalf("at %s: %s does not run", h.f.Now(), h.Name)
	}
	h.f.net.powerOff(r.life)
	h.mu.Lock()
	h.disk, h.run = h.disk.PowerLoss(nil), nil
	h.old = append(h.old, r)
	h.mu.Unlock()
	r.cancel()
}

// SyncTakes sets how long a sync of the host's disk takes, until it is wiped; f is
// asked for each, by several goroutines. At first they take no time.
func (h *Host) SyncTakes(f func() time.Duration) { h.disk.SyncTakes(f) }

// Restart starts the agent again on its address with the state it had, after
// Crash, Stop or Leave.
func (h *Host) Restart() {
	h.f.T.Helper()
	if h.Running() {
		h.f.T.Fatalf("at %s: %s runs", h.f.Now(), h.Name)
	}
	// The data folder is the old agent's until it is torn down.
	for _, r := range h.old {
		<-r.done
	}
	h.old = nil
	h.f.net.powerOn(h.addr)
	h.launch()
}

// Doomed says that the agent will end by itself. The function it returns waits for
// that, and returns why.
func (h *Host) Doomed() func(within time.Duration) error {
	h.f.T.Helper()
	r := h.ask()
	if r == nil {
		h.f.T.Fatalf("at %s: %s does not run", h.f.Now(), h.Name)
	}
	return func(within time.Duration) error {
		h.f.T.Helper()
		select {
		case <-r.done:
		case <-time.After(within):
			h.f.T.Fatalf("at %s: the agent of %s did not end within %s", h.f.Now(), h.Name, within)
		}
		return r.err
	}
}

// StartRefused tries to start the agent and returns why it does not start.
func (h *Host) StartRefused() error {
	h.f.net.powerOn(h.addr)
	_, err := node.New(h.config(&life{net: h.f.net, addr: h.addr, dir: h.dir, disk: h.disk}))
	if err == nil {
		h.f.T.Fatalf("at %s: the agent of %s may start", h.f.Now(), h.Name)
	}
	return err
}

// Wipe gives the host, which must not run, empty disks.
func (h *Host) Wipe() {
	h.f.T.Helper()
	for _, r := range h.old {
		<-r.done
	}
	h.f.Must(os.RemoveAll(h.dir))
	h.disk = raftlogtest.New()
}

// Dir is the host's data directory.
func (h *Host) Dir() string { return h.dir }

// Stop ends the agent as a signal does, without leaving: connections are closed.
func (h *Host) Stop() { h.halt() }

// halt ends the agent, and waits for that and for those torn down after a crash.
func (h *Host) halt() {
	if r := h.ask(); r != nil {
		r.cancel()
		<-r.done
	}
	for _, r := range h.old {
		<-r.done
	}
}

// Leave is PUT /v1/agent/leave; it returns when the agent has ended.
func (h *Host) Leave() error {
	r := h.ask()
	if r == nil {
		return fmt.Errorf("%s does not run", h.Name)
	}
	if _, err := h.call(http.MethodPut, "/v1/agent/leave", ""); err != nil {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("%s left, but its agent did not end", h.Name)
	}
}

// Reply is an answer of an agent's HTTP interface.
type Reply struct {
	Code   int
	Header http.Header
	Body   string
}

// Call sends a request to the agent. The error says that there was no answer; any
// status is one.
func (h *Host) Call(ctx context.Context, method, path, body string) (*Reply, error) {
	r := h.current()
	if r == nil {
		return nil, fmt.Errorf("%s %s of %s: connection refused", method, path, h.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	r.node.Handler().ServeHTTP(w, req)
	h.f.net.mu.Lock()
	dead := r.life.dead
	h.f.net.mu.Unlock()
	if dead {
		return nil, fmt.Errorf("%s %s of %s: connection lost", method, path, h.Name)
	}
	return &Reply{w.Code, w.Header(), w.Body.String()}, nil
}

// call is Call for what should succeed.
func (h *Host) call(method, path, body string) (string, error) {
	r, err := h.Call(context.Background(), method, path, body)
	if err != nil {
		return "", err
	}
	if r.Code != http.StatusOK {
		return "", fmt.Errorf("%s %s of %s: %d: %s", method, path, h.Name, r.Code, r.Body)
	}
	return r.Body, nil
}

// Put writes a key through this agent in its own datacenter. A parameter is as in
// a query: "dc=west".
func (h *Host) Put(key, value string, params ...string) error {
	body, err := h.call(http.MethodPut, "/v1/kv/"+key+"?"+strings.Join(params, "&"), value)
	if err == nil && strings.TrimSpace(body) != "true" {
		return fmt.Errorf("PUT of %s through %s answers %q", key, h.Name, body)
	}
	return err
}

// Get reads a key through this agent.
func (h *Host) Get(key string, params ...string) (string, error) {
	return h.call(http.MethodGet, "/v1/kv/"+key+"?raw&"+strings.Join(params, "&"), "")
}

// Expect reads a key and compares.
func (h *Host) Expect(key, want string, params ...string) error {
	got, err := h.Get(key, params...)
	if err == nil && got != want {
		return fmt.Errorf("%s of %s %v is %q, want %q", key, h.Name, params, got, want)
	}
	return err
}

// Join is `wan join`: this host's datacenter joins the one of another host.
func (h *Host) Join(other *Host) error {
	_, err := h.call(http.MethodPut, "/v1/agent/join/"+netip.AddrPortFrom(other.addr, serfWANPort).String()+"?wan=1", "")
	return err
}

// Member is a pool's member as an agent sees it.
type Member struct {
	Name   string
	Status int // 1 alive, 2 leaving, 3 left, 4 failed
	Tags   map[string]string
}

// LAN are the members of the LAN pool, by name.
func (h *Host) LAN() (map[string]Member, error) { return h.members("/v1/agent/members") }

// WAN are the members of the WAN pool, by name "<node>.<dc>".
func (h *Host) WAN() (map[string]Member, error) { return h.members("/v1/agent/members?wan=1") }

func (h *Host) members(path string) (map[string]Member, error) {
	list, err := into[[]Member](h.call(http.MethodGet, path, ""))
	if err != nil {
		return nil, err
	}
	m := make(map[string]Member, len(list))
	for _, one := range list {
		m[one.Name] = one
	}
	return m, nil
}

// Datacenters are those the agent knows, nearest first.
func (h *Host) Datacenters() ([]string, error) {
	return into[[]string](h.call(http.MethodGet, "/v1/catalog/datacenters", ""))
}

// RaftServer is a row of the Raft configuration.
type RaftServer struct {
	ID, Node, Address string
	Leader, Voter     bool
}

// Raft are the members of the Raft group, by node name.
func (h *Host) Raft() (map[string]RaftServer, error) {
	conf, err := into[struct{ Servers []RaftServer }](h.call(http.MethodGet, "/v1/operator/raft/configuration", ""))
	if err != nil {
		return nil, err
	}
	m := map[string]RaftServer{}
	for _, s := range conf.Servers {
		m[s.Node] = s
	}
	return m, nil
}

// Leads says whether the agent takes itself for the leader.
func (h *Host) Leads() bool { return h.Running() && h.server && h.knownLeader() == h.serverAddr() }

// knownLeader is the address of the leader as the agent knows it.
func (h *Host) knownLeader() string {
	addr, err := into[string](h.call(http.MethodGet, "/v1/status/leader", ""))
	if err != nil {
		return err.Error()
	}
	return addr
}

func into[T any](body string, err error) (v T, _ error) {
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return v, errors.Join(err, errors.New(body))
	}
	return v, nil
}

// Healthy returns nil if the catalog has the node and its serfHealth passes.
func (h *Host) Healthy(nodeName string) error {
	checks, err := into[[]struct{ CheckID, Status string }](h.call(http.MethodGet, "/v1/health/node/"+nodeName, ""))
	if err != nil {
		return err
	}
	for _, c := range checks {
		if c.CheckID == "serfHealth" && c.Status == "passing" {
			return nil
		}
	}
	return fmt.Errorf("checks of %s are %v, want serfHealth passing", nodeName, checks)
}
