package apiclient

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// alone starts an agent that is a datacenter by itself, and waits for it.
func alone(t *testing.T, name, ip string, conf map[string]any, env ...string) (*agent, *api.Client) {
	t.Helper()
	conf["server"], conf["bootstrap_expect"] = true, 1
	a := newAgent(t.TempDir(), name, "dc1", ip, conf)
	a.Env = env
	a.run(t)
	c := a.client(t)
	a.awaitCatalog(t, c)
	return a, c
}

func (a *agent) awaitCatalog(t *testing.T, c *api.Client) {
	t.Helper()
	until(t, 30*time.Second, "the agent is in the catalog", func() error {
		n, _, err := c.Catalog().Node(a.Name, nil)
		if err == nil && n == nil {
			err = errNotYet
		}
		return err
	})
}

// healthy waits until the agent has the status and output for a check, and the
// catalog the status: an output alone may take minutes to get there. An output that
// ends in * is a beginning.
func healthy(t *testing.T, c *api.Client, id, status, output string) {
	t.Helper()
	begins, open := strings.CutSuffix(output, "*")
	var node string
	until(t, 20*time.Second, id+" is "+status, func() error {
		local, err := c.Agent().Checks()
		if err != nil {
			return err
		}
		got := local[id]
		if got == nil || got.Status != status || got.Output != output && !(open && strings.HasPrefix(got.Output, begins)) {
			return fmt.Errorf("got %+v, want %s %q", got, status, output)
		}
		node = got.Node
		return nil
	})
	until(t, 10*time.Second, "the catalog says so", func() error {
		checks, _, err := c.Health().Node(node, &api.QueryOptions{Filter: fmt.Sprintf("CheckID == %q", id)})
		if err == nil && (len(checks) != 1 || checks[0].Status != status) {
			err = fmt.Errorf("%w: %v", errNotYet, checks)
		}
		return err
	})
}

// onLoopback listens for what a test serves until it ends.
func onLoopback(t *testing.T, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, address)
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

func grpcServer(t *testing.T, opts ...grpc.ServerOption) (string, *health.Server) {
	ln, h, s := onLoopback(t, "tcp"), health.NewServer(), grpc.NewServer(opts...)
	grpc_health_v1.RegisterHealthServer(s, h)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return ln.Addr().String(), h
}

// TestEveryKindOfCheck registers a check of each kind through the official client,
// each against a real service, and reads what they find from the catalog.
func TestEveryKindOfCheck(t *testing.T) {
	t.Parallel()
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("X-Probe"), body)
	}))
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(web.Close)
	secure := web.Listener.Addr().String()
	// What the agent uses with enable_agent_tls_for_checks: the test server's
	// certificate is its own authority.
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600))

	plain := httptest.NewServer(web.Config.Handler)
	t.Cleanup(plain.Close)
	h2c := &http.Server{Handler: web.Config.Handler, Protocols: new(http.Protocols)}
	h2c.Protocols.SetUnencryptedHTTP2(true)
	h2ln := onLoopback(t, "tcp")
	go func() { _ = h2c.Serve(h2ln) }()
	t.Cleanup(func() { h2c.Close() })

	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { echo.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(buf[:n], from)
		}
	}()

	docker := onLoopback(t, "unix")
	engine := http.NewServeMux()
	engine.HandleFunc("POST /containers/c1/exec", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"Id":"e"}`)
	})
	engine.HandleFunc("POST /exec/e/start", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "\x01\x00\x00\x00\x00\x00\x00\x02hm") })
	engine.HandleFunc("GET /exec/e/json", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"Running":false,"ExitCode":1}`) })
	go func() { _ = http.Serve(docker, engine) }()

	rpc, states := grpcServer(t)
	states.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	safe, _ := grpcServer(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: web.TLS.Certificates})))

	_, c := alone(t, "kinds", "127.21.6.1", map[string]any{
		"enable_script_checks": true, "enable_agent_tls_for_checks": true, "check_output_max_size": 100,
		"tls": map[string]any{"internal_rpc": map[string]any{"ca_file": ca}},
	}, "DOCKER_HOST=unix://"+docker.Addr().String(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+dir+"/no-bus", "PROBE=of the agent")
	var numbers string // as seq prints them
	for i := range 1000 {
		numbers += fmt.Sprintln(i + 1)
	}
	must(t, c.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "db", Check: &api.AgentServiceCheck{CheckID: "db", TTL: "1h", Status: api.HealthPassing}}))
	for id, k := range map[string]struct {
		check          api.AgentServiceCheck
		status, output string
	}{
		"script":         {api.AgentServiceCheck{Args: []string{"/bin/sh", "-c", "echo $PROBE; exit 1"}}, api.HealthWarning, "of the agent\n"},
		"script, long":   {api.AgentServiceCheck{Args: []string{"seq", "1000"}}, api.HealthPassing, "Captured 100 of 3893 bytes\n...\n" + numbers[len(numbers)-100:]},
		"script, hangs":  {api.AgentServiceCheck{Args: []string{"/bin/sh", "-c", "sleep 100 & wait"}, Timeout: "1s"}, api.HealthCritical, "Timed out (1s) running check"},
		"http":           {api.AgentServiceCheck{HTTP: plain.URL, Method: "POST", Body: "b", Header: map[string][]string{"X-Probe": {"x"}}}, api.HealthPassing, "HTTP POST " + plain.URL + ": 200 OK Output: POST x b"},
		"http, busy":     {api.AgentServiceCheck{HTTP: plain.URL + "/busy"}, api.HealthWarning, "HTTP GET " + plain.URL + "/busy: 429 Too Many Requests Output: GET  "},
		"http, moved":    {api.AgentServiceCheck{HTTP: plain.URL + "/moved"}, api.HealthPassing, "HTTP GET " + plain.URL + "/moved: 200 OK Output: GET  "},
		"https":          {api.AgentServiceCheck{HTTP: web.URL}, api.HealthPassing, "HTTP GET " + web.URL + ": 200 OK Output: GET  "},
		"https, name":    {api.AgentServiceCheck{HTTP: web.URL, TLSServerName: "other.example"}, api.HealthCritical, `Get "` + web.URL + `": tls: failed to verify certificate: x509: certificate is valid for example.com, *`},
		"https, skip":    {api.AgentServiceCheck{HTTP: web.URL, TLSServerName: "other.example", TLSSkipVerify: true}, api.HealthPassing, "HTTP GET " + web.URL + ": 200 OK Output: GET  "},
		"tcp":            {api.AgentServiceCheck{TCP: secure}, api.HealthPassing, "TCP connect " + secure + ": Success"},
		"tcp, tls":       {api.AgentServiceCheck{TCP: secure, TCPUseTLS: true}, api.HealthPassing, "TCP connect " + secure + ": Success"},
		"tcp, refused":   {api.AgentServiceCheck{TCP: "127.21.6.1:9"}, api.HealthCritical, "dial tcp 127.21.6.1:9: connect: connection refused"},
		"udp":            {api.AgentServiceCheck{UDP: echo.LocalAddr().String()}, api.HealthPassing, "UDP connect " + echo.LocalAddr().String() + ": Success"},
		"udp, refused":   {api.AgentServiceCheck{UDP: "127.21.6.1:9"}, api.HealthCritical, "read udp *"},
		"grpc":           {api.AgentServiceCheck{GRPC: rpc}, api.HealthPassing, "gRPC check " + rpc + ": success"},
		"grpc, down":     {api.AgentServiceCheck{GRPC: rpc + "/down"}, api.HealthCritical, "gRPC check " + rpc + "/down: NOT_SERVING"},
		"grpc, unknown":  {api.AgentServiceCheck{GRPC: rpc + "/none"}, api.HealthCritical, "rpc error: code = NotFound desc = unknown service"},
		"grpc, tls":      {api.AgentServiceCheck{GRPC: safe, GRPCUseTLS: true}, api.HealthPassing, "gRPC check " + safe + ": success"},
		"h2ping, tls":    {api.AgentServiceCheck{H2PING: secure, H2PingUseTLS: true}, api.HealthPassing, "HTTP2 ping was successful"},
		"docker":         {api.AgentServiceCheck{DockerContainerID: "c1", Shell: "/bin/sh", Args: []string{"true"}}, api.HealthWarning, "hm"},
		"docker, none":   {api.AgentServiceCheck{DockerContainerID: "c2", Args: []string{"true"}}, api.HealthCritical, "Docker Engine at unix://" + docker.Addr().String() + ": 404 Not Found: no reason given"},
		"alias":          {api.AgentServiceCheck{AliasService: "db", Interval: "-"}, api.HealthPassing, "All checks passing."},
		"alias, missing": {api.AgentServiceCheck{AliasService: "nope", Interval: "-"}, api.HealthCritical, "Service nope could not be found on node "},
	} {
		t.Run(id, func(t *testing.T) {
			k.check.Interval = map[string]string{"": "1s", "-": ""}[k.check.Interval]
			service := "of " + id
			kind, _, _ := strings.Cut(strings.Replace(id, "https", "http", 1), ",")
			k.check.CheckID = id
			must(t, c.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: service, Check: &k.check}))
			healthy(t, c, id, k.status, k.output)
			local, err := c.Agent().Checks()
			if err != nil || local[id] == nil || local[id].Type != kind || local[id].ServiceName != service {
				t.Errorf("local check: %v %+v", err, local[id])
			}
		})
	}

	// What the official client has no fields for, or cannot say.
	for id, k := range map[string]struct {
		check          map[string]any
		status, output string
	}{
		"os_service":      {map[string]any{"OSService": "nginx"}, api.HealthCritical, "systemd: no D-Bus system bus: dial unix " + dir + "/no-bus: connect: no such file or directory"},
		"h2ping":          {map[string]any{"H2PING": h2ln.Addr().String(), "H2PingUseTLS": false}, api.HealthPassing, "HTTP2 ping was successful"},
		"h2ping, h1":      {map[string]any{"H2PING": plain.Listener.Addr().String(), "H2PingUseTLS": false}, api.HealthCritical, "HTTP2 ping failed: *"},
		"script, short":   {map[string]any{"Args": []string{"seq", "1000"}, "OutputMaxSize": 8}, api.HealthPassing, "Captured 8 of 3893 bytes\n...\n99\n1000\n"},
		"http, not moved": {map[string]any{"HTTP": plain.URL + "/moved", "DisableRedirects": true}, api.HealthCritical, "HTTP GET " + plain.URL + "/moved: 302 Found Output: *"},
	} {
		t.Run(id, func(t *testing.T) {
			k.check["Name"], k.check["Interval"] = id, "1s"
			_, err := c.Raw().Write("/v1/agent/check/register", k.check, nil, nil)
			must(t, err)
			healthy(t, c, id, k.status, k.output)
		})
	}

	// What happens to a service shows.
	states.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	states.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_SERVING)
	must(t, c.Agent().FailTTL("db", "gone"))
	echo.Close()
	healthy(t, c, "alias", api.HealthCritical, `Aliased check "db" failing: gone`)
	healthy(t, c, "grpc", api.HealthCritical, "gRPC check "+rpc+": NOT_SERVING")
	healthy(t, c, "grpc, down", api.HealthPassing, "gRPC check "+rpc+"/down: success")
	healthy(t, c, "udp", api.HealthCritical, "read udp *")
}

// TestAliasOfAnotherNode mirrors a service of the server on the client agent.
func TestAliasOfAnotherNode(t *testing.T) {
	w := theWorld(t)
	there, here, svc := w.server.client(t), w.client1.client(t), name(t, "db")
	must(t, there.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: svc, Check: &api.AgentServiceCheck{CheckID: svc, TTL: "1h", Status: api.HealthPassing}}))
	must(t, here.Agent().CheckRegister(&api.AgentCheckRegistration{ID: svc + "-alias", Name: "alias", AgentServiceCheck: api.AgentServiceCheck{AliasNode: "s1", AliasService: svc}}))
	healthy(t, here, svc+"-alias", api.HealthPassing, "All checks passing.")
	began := time.Now()
	must(t, there.Agent().WarnTTL(svc, "hm"))
	healthy(t, here, svc+"-alias", api.HealthWarning, fmt.Sprintf("Aliased check %q failing: hm", svc))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v: a read that waits tells at once", took)
	}
	must(t, there.Agent().ServiceDeregister(svc))
	healthy(t, here, svc+"-alias", api.HealthCritical, "Service "+svc+" could not be found on node s1")
	must(t, here.Agent().CheckDeregister(svc+"-alias"))
}

// TestChecksAndARestart kills an agent and starts it again: what it was told is
// there, and what it may not run any more is not.
func TestChecksAndARestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ok")
	a, c := alone(t, "again", "127.21.6.2", map[string]any{"enable_script_checks": true})
	ag := c.Agent()
	must(t, ag.ServiceRegister(&api.AgentServiceRegistration{Name: "web", Checks: api.AgentServiceChecks{
		{CheckID: "told", TTL: "1h"},
		{CheckID: "script", Args: []string{"/bin/sh", "-c", "test -e " + file + " || exit 2"}, Interval: "1s", FailuresBeforeCritical: 2},
	}}))
	must(t, ag.WarnTTL("told", "hm"))
	must(t, ag.EnableNodeMaintenance("disk"))
	must(t, ag.EnableServiceMaintenance("web", "upgrade"))
	must(t, os.WriteFile(file, nil, 0o600))
	healthy(t, c, "script", api.HealthPassing, "")

	a.kill()
	delete(a.Conf, "enable_script_checks")
	a.run(t)
	a.awaitCatalog(t, c)
	healthy(t, c, "told", api.HealthWarning, "hm")
	checks, err := ag.Checks()
	must(t, err)
	if checks["script"] != nil {
		t.Error("a script that is not allowed any more is there")
	}
	for id, notes := range map[string]string{"_node_maintenance": "disk", "_service_maintenance:web": "upgrade"} {
		if got := checks[id]; got == nil || got.Status != api.HealthCritical || got.Notes != notes {
			t.Errorf("%s after the restart: %+v", id, got)
		}
	}
	refused(t, ag.CheckRegister(&api.AgentCheckRegistration{Name: "s", AgentServiceCheck: api.AgentServiceCheck{Args: []string{"true"}, Interval: "1s"}}), 500,
		"Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")

	a.kill()
	a.Conf["enable_script_checks"] = true
	a.run(t)
	a.awaitCatalog(t, c)
	healthy(t, c, "script", api.HealthPassing, "")
	must(t, os.Remove(file))
	healthy(t, c, "script", api.HealthCritical, "")
}
