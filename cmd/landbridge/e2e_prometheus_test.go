//go:build e2e

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// discovery is cmd/internal/promsd: Prometheus's own Consul discovery, which tells
// of every change.
type discovery struct {
	t     *testing.T
	dir   string
	lines chan discovered
	now   discovered
	log   safeBuffer
}

type discovered struct {
	Jobs     map[string][]map[string]string
	Failures int
}

func startDiscovery(t *testing.T, jobs map[string]any) *discovery {
	t.Helper()
	d := &discovery{t: t, dir: t.TempDir(), lines: make(chan discovered)}
	bin := filepath.Join(d.dir, "promsd")
	if out, err := command(t, "go", "build", "-C", "../internal/promsd", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	raw, err := json.Marshal(jobs) // which is YAML, too
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(d.dir, "discovery.yml")
	if err := os.WriteFile(conf, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, bin, "-config", conf, "-dir", d.dir)
	cmd.Stderr = &d.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(d.lines)
		for dec := json.NewDecoder(bufio.NewReader(out)); ; {
			var line discovered
			if dec.Decode(&line) != nil {
				return
			}
			select {
			case d.lines <- line:
			case <-t.Context().Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		reader.Wait()
		_ = cmd.Wait()
		if s := d.log.String(); t.Failed() {
			t.Logf("the discovery says:\n%s", s[max(0, len(s)-2000):])
		}
	})
	return d
}

// errors are the errors that the discovery has logged, the first few of them.
func (d *discovery) errors() string {
	var list []string
	for line := range strings.Lines(d.log.String()) {
		if strings.Contains(line, "level=ERROR") && len(list) < 5 {
			list = append(list, line[:min(len(line), 600)])
		}
	}
	return strings.Join(list, "\n")
}

// until takes in changes until the targets are as wanted.
func (d *discovery) until(what string, ok func() bool) {
	d.t.Helper()
	start, deadline := time.Now(), time.After(30*time.Second)
	for !ok() {
		select {
		case line, more := <-d.lines:
			if !more {
				d.t.Fatalf("%s: the discovery ended", what)
			}
			d.now = line
		case <-deadline:
			raw, _ := json.MarshalIndent(d.now, "", " ")
			d.t.Fatalf("%s: not within 30s; the targets are %s", what, raw)
		}
	}
	d.t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
}

// of are the targets of a job, by service ID, as "address health".
func (d *discovery) of(job string) map[string]string {
	m := map[string]string{}
	for _, t := range d.now.Jobs[job] {
		m[t["__meta_consul_service_id"]] = t["__address__"] + " " + t["__meta_consul_health"]
	}
	return m
}

// target is the one with that service ID.
func (d *discovery) target(job, id string) map[string]string {
	for _, t := range d.now.Jobs[job] {
		if t["__meta_consul_service_id"] == id {
			return t
		}
	}
	return nil
}

// prometheusConfig scrapes what the discovery of the job landbridge found, by the
// relabelling that users of Consul know.
const prometheusConfig = `
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
- job_name: landbridge
  file_sd_configs:
  - files: [%q]
  relabel_configs:
  - {source_labels: [__meta_consul_service_metadata_metrics_path], target_label: __metrics_path__}
  - {source_labels: [__meta_consul_dc], target_label: dc}
  - {source_labels: [__meta_consul_node], target_label: node}
`

type prometheus struct {
	t   *testing.T
	url string
}

func startPrometheus(t *testing.T, bin, addr, targets string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, prometheusConfig, targets), 0o600); err != nil {
		t.Fatal(err)
	}
	var log safeBuffer
	cmd := exec.CommandContext(t.Context(), bin, "--config.file="+conf, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Prometheus says:\n%s", log.String())
		}
	})
	return &prometheus{t: t, url: "http://" + addr}
}

// query is an instant query: the values by node; nil while Prometheus is not ready.
func (p *prometheus) query(q string) map[string]string {
	p.t.Helper()
	resp, err := httpClient.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(q))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		return nil
	}
	var answer struct {
		Status string
		Data   struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("query %s: %d %.300s", q, resp.StatusCode, raw)
	}
	values := map[string]string{}
	for _, r := range answer.Data.Result {
		values[r.Metric["dc"]+" "+r.Metric["node"]] = fmt.Sprint(r.Value[1])
	}
	return values
}

func (p *prometheus) want(q string, want map[string]string) {
	p.t.Helper()
	var got map[string]string
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if got = p.query(q); maps.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s: %v, want %v", q, got, want)
		}
	}
}

// TestPrometheus discovers the services of both datacenters at one client agent,
// with the code of Prometheus, and has Debian's Prometheus scrape what is found.
// No request of the discovery may fail, whatever happens to the servers.
func TestPrometheus(t *testing.T) {
	bin := debian(t, "prometheus", "/usr/bin/prometheus")
	dc1, dc2 := datacenters(t, 40, 3, map[string]any{"node_meta": map[string]any{"rack": "r1"}})
	client := newAgent(t, t.TempDir(), "dc1-c1", "dc1", "127.68.40.11", map[string]any{
		"server": false, "encrypt": testKey, "node_meta": map[string]any{"rack": "r2"}, "retry_join": []string{dc1[0].IP},
	})
	client.start()
	until(t, 20*time.Second, "the client agent reads both datacenters", func() bool { return client.reads("dc1") && client.reads("dc2") })
	all, allUp := map[string]string{}, map[string]string{}
	for _, a := range slices.Concat(dc1, dc2, []*agentProcess{client}) {
		a.put("/v1/agent/service/register", map[string]any{
			"id": a.Name, "name": "landbridge", "port": 8500, "tags": []string{"metrics"}, "meta": map[string]string{"metrics_path": "/metrics"},
		})
		all[a.Name] = a.IP + ":8500 passing"
		allUp[a.Conf["datacenter"].(string)+" "+a.Name] = "1"
	}
	job := func(conf map[string]any) map[string]any {
		conf["server"], conf["refresh_interval"] = client.IP+":8500", "100ms"
		return conf
	}
	d := startDiscovery(t, map[string]any{
		"landbridge": []any{
			job(map[string]any{"datacenter": "dc1", "services": []string{"landbridge"}}),
			job(map[string]any{"datacenter": "dc2", "services": []string{"landbridge"}}),
		},
		"everything": []any{job(map[string]any{})}, // asks the agent where it is
		"tagged":     []any{job(map[string]any{"datacenter": "dc2", "tags": []string{"http", "blue"}, "allow_stale": false})},
		"rack":       []any{job(map[string]any{"node_meta": map[string]string{"rack": "r2"}})},
		"filtered": []any{job(map[string]any{"datacenter": "dc2",
			"filter": `ServiceName matches "^(web|db)$" and NodeMeta.rack == "r1"`, "health_filter": `Service.Meta.version == "2"`})},
	})
	d.until("all metrics of both datacenters are found", func() bool { return maps.Equal(d.of("landbridge"), all) })
	d.until("the job of everything has the servers", func() bool { return len(d.of("everything")) == 5 }) // consul and landbridge of dc1
	d.until("the rack has the client agent", func() bool { return maps.Equal(d.of("rack"), map[string]string{client.Name: all[client.Name]}) })
	target := d.target("landbridge", client.Name)
	for label, want := range map[string]string{
		"__meta_consul_dc": "dc1", "__meta_consul_service": "landbridge", "__meta_consul_node": client.Name, "__meta_consul_address": client.IP,
		"__meta_consul_service_address": "", "__meta_consul_service_port": "8500", "__meta_consul_tags": ",metrics,", "__meta_consul_metadata_rack": "r2",
		"__meta_consul_service_metadata_metrics_path": "/metrics", "__meta_consul_tagged_address_lan": client.IP, "__meta_consul_tagged_address_wan_ipv4": client.IP,
	} {
		if target[label] != want {
			t.Errorf("%s is %q, want %q", label, target[label], want)
		}
	}

	p := startPrometheus(t, bin, "127.68.40.200:9090", filepath.Join(d.dir, "landbridge.json"))
	p.want("up", allUp)
	p.want("count by (dc, node) (landbridge_httpapi_requests_total) > bool 0", allUp)
	p.want("count by (dc) (landbridge_consensus_is_leader == 1)", map[string]string{"dc1 ": "1", "dc2 ": "1"})

	far := dc2[0]
	register := func(id, name, version string, tags ...string) {
		t.Helper()
		far.put("/v1/agent/service/register", map[string]any{"id": id, "name": name, "port": 80, "tags": tags,
			"meta": map[string]string{"version": version}, "check": map[string]any{"ttl": "1h", "status": "passing"}})
	}
	register("web1", "web", "1", "http", "blue")
	register("web2", "web", "2", "http", "green")
	register("db2", "db", "2", "blue")
	register("other", "other", "2", "http", "blue")
	at := far.IP + ":80 "
	d.until("registrations with both tags", func() bool {
		return maps.Equal(d.of("tagged"), map[string]string{"web1": at + "passing", "other": at + "passing"})
	})
	d.until("registrations that pass the filters", func() bool {
		return maps.Equal(d.of("filtered"), map[string]string{"web2": at + "passing", "db2": at + "passing"})
	})
	far.put("/v1/agent/check/fail/service:web2", nil)
	d.until("a failed check", func() bool { return d.of("filtered")["web2"] == at+"critical" })
	register("web1", "web", "1", "http", "green")
	far.put("/v1/agent/service/deregister/db2", nil)
	far.put("/v1/agent/service/deregister/other", nil)
	d.until("a changed tag and deregistrations", func() bool {
		return len(d.of("tagged")) == 0 && maps.Equal(d.of("filtered"), map[string]string{"web2": at + "critical"})
	})

	for _, dc := range [][]*agentProcess{dc2, dc1} {
		l := leaderOf(t, dc)
		l.kill()
		d.until(l.Name+", killed while it led, is critical", func() bool { return strings.HasSuffix(d.of("landbridge")[l.Name], " critical") })
		if n := len(d.of("landbridge")); n != len(all) {
			t.Errorf("%d targets while %s is dead, want %d", n, l.Name, len(all))
		}
		down := maps.Clone(allUp)
		down[l.Conf["datacenter"].(string)+" "+l.Name] = "0"
		p.want("up", down)
		other := dc[0]
		if other == l {
			other = dc[1]
		}
		other.put("/v1/agent/service/register", map[string]any{"id": "new", "name": "landbridge", "port": 1})
		d.until("a registration while it is dead", func() bool { return d.of("landbridge")["new"] == other.IP+":1 passing" })
		other.put("/v1/agent/service/deregister/new", nil)
		l.start()
		// Its registration was in its data directory.
		d.until(l.Name+" is back", func() bool { return maps.Equal(d.of("landbridge"), all) })
		p.want("up", allUp)
	}
	// Whichever servers the queries of the discovery wait at, they are killed now.
	for i, a := range slices.Concat(dc1, dc2) {
		a.kill()
		a.start()
		until(t, 20*time.Second, a.Name+" has a leader", a.hasLeader)
		client.put("/v1/agent/service/register", map[string]any{"id": "marker", "name": "landbridge", "port": i})
		dc2[(i+1)%3].put("/v1/agent/service/register", map[string]any{"id": fmt.Sprint("far", i), "name": "landbridge", "port": i})
		d.until(a.Name+" was killed and is back", func() bool {
			m := d.of("landbridge")
			return m["marker"] == fmt.Sprintf("%s:%d passing", client.IP, i) && m[fmt.Sprint("far", i)] != "" && len(m) == len(all)+i+2
		})
	}
	if d.now.Failures > 0 {
		t.Errorf("%d requests of the discovery failed: %s", d.now.Failures, d.errors())
	}
}
