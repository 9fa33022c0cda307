package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"landbridge/forwarding/rpc"
	"landbridge/store"
)

func joined(t *testing.T, servers int) (w *world, d1, d2 *dc) {
	t.Helper()
	w = newWorld(t)
	d1, d2 = w.add("dc1", servers, nil), w.add("dc2", servers, nil)
	if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
		t.Fatal(err)
	}
	return w, d1, d2
}

// TestRotation lives through three weeks, and then to the renewal of the
// intermediates: every certificate is replaced in time.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d1, d2 := joined(t, 2)
		w.lazy.Store(true)
		time.Sleep(time.Second)
		first := d2.servers[1].view.Load().creds.leaf
		seen := map[string]bool{}
		for range 21 * 24 {
			time.Sleep(time.Hour)
			for _, d := range w.dcs {
				for _, s := range d.servers {
					leaf := s.view.Load().creds.leaf
					if left := time.Until(leaf.NotAfter); left < leafLife/5 {
						t.Fatalf("%s: certificate has %v left", s.self(), left)
					}
				}
			}
			seen[d2.servers[1].view.Load().creds.leaf.SerialNumber.String()] = true
		}
		if len(seen) < 9 || len(seen) > 12 {
			t.Errorf("%d certificates in three weeks, want about ten", len(seen))
		}
		if bytes.Equal(first.RawSubjectPublicKeyInfo, d2.servers[1].view.Load().creds.leaf.RawSubjectPublicKeyInfo) {
			t.Error("the key was never replaced")
		}
		i1, i2 := d1.trust().Intermediate, d2.trust().Intermediate
		time.Sleep(intermediateLife * 2 / 3)
		if bytes.Equal(i1, d1.trust().Intermediate) || bytes.Equal(i2, d2.trust().Intermediate) {
			t.Error("an intermediate was not renewed at two thirds of its life")
		}
		w.allTalk()
		for _, dc := range d1.trust().Datacenters {
			c, err := x509.ParseCertificate(w.dcs[dc.Name].trust().Intermediate)
			if err != nil || dc.KeyHash != keyHash(c.PublicKey) {
				t.Errorf("the primary remembers another key of %s: %v", dc.Name, err)
			}
		}
	})
}

// TestPrimaryAway keeps the primary without leader while the secondary's
// intermediate falls due: it is renewed when the primary is back.
func TestPrimaryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d1, d2 := joined(t, 1)
		w.lazy.Store(true)
		time.Sleep(intermediateLife*2/3 - time.Hour)
		d1.leader.Store(-1)
		old := d2.trust().Intermediate
		time.Sleep(2 * time.Hour)
		if !bytes.Equal(old, d2.trust().Intermediate) {
			t.Fatal("renewed without the primary")
		}
		if got := testutil.ToFloat64(d2.lead().metrics.failures.WithLabelValues("intermediate")); got == 0 {
			t.Error("failed renewals are not counted")
		}
		d1.leader.Store(0)
		time.Sleep(2 * retryMost)
		if bytes.Equal(old, d2.trust().Intermediate) {
			t.Error("not renewed a minute after the primary came back")
		}
		time.Sleep(time.Second)
		w.allTalk()
	})
}

// TestProvisionalRoot stays until the last server replaced its certificate, is
// dropped then, and when it cannot be known, once the last must have expired.
func TestProvisionalRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d1, d2 := w.add("dc1", 1, nil), w.add("dc2", 3, nil)
		late := d2.servers[2]
		late.cancel()
		<-late.done
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if len(d2.trust().Roots) != 2 {
			t.Fatal("provisional root dropped while a server has a certificate below it")
		}
		// It knows the new root, and could not get a certificate yet.
		late.follow(d2.trust())
		if err := errors.Join(late.canTalk(d2.servers[0]), d2.servers[0].canTalk(late)); err != nil {
			t.Errorf("the server that is late is cut off: %v", err)
		}
		if err := late.canTalk(d1.lead()); err == nil {
			t.Error("the other datacenter trusts the provisional root")
		}
		// Another leader takes over and learns from the servers anew.
		d2.leader.Store(1)
		if err := d2.lead().EstablishLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		late.cancel, late.done = cancel, make(chan struct{})
		go func() { defer close(late.done); _ = late.Run(ctx) }()
		time.Sleep(confirmEvery + time.Second)
		if len(d2.trust().Roots) != 1 {
			t.Error("provisional root not dropped after the last server replaced its certificate")
		}
		w.allTalk()
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("dc1", 1, nil)
		d2 := w.add("dc2", 1, func(c *Config) { c.Servers = nil })
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leafLife)
		if len(d2.trust().Roots) != 2 {
			t.Error("provisional root dropped while a certificate below it may be valid")
		}
		time.Sleep(slack + time.Minute)
		if len(d2.trust().Roots) != 1 {
			t.Error("provisional root never dropped")
		}
	})
}

// TestRestart starts a server on its folder while its datacenter has no leader
// and its Raft state is not there yet.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		d1 := w.add("dc1", 1, nil)
		d2 := w.add("dc2", 1, func(c *Config) { c.DataDir = dir })
		if err := d2.lead().Join(t.Context(), "s1.dc1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		info, err := os.Stat(identityPath(dir))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("kept certificate: %v, %v", info, err)
		}
		if files, _ := os.ReadDir(dir + "/federation"); len(files) != 1 {
			t.Errorf("left over: %v", files)
		}
		old := d2.lead()
		cfg := old.cfg
		cfg.State, cfg.IsLeader, cfg.Registerer = StateOf(newEmptyState()), func() bool { return false }, prometheus.NewRegistry()
		a, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-a.Ready():
		default:
			t.Fatal("not ready from its folder")
		}
		again := &server{Authority: a, dc: d2}
		if err := errors.Join(again.canTalk(d1.lead()), d1.lead().canTalk(again)); err != nil {
			t.Errorf("restarted without a leader: %v", err)
		}
		old.cancel() // or it would renew the file
		<-old.done
		// A file of another server, a cut one and an expired one are not used.
		whole, err := os.ReadFile(identityPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		for name, edit := range map[string]func(*Config){
			"another node": func(c *Config) { c.Node = "s9" },
			"cut":          func(c *Config) { _ = os.WriteFile(identityPath(dir), whole[:len(whole)/2], 0o600) },
			"garbage":      func(c *Config) { _ = os.WriteFile(identityPath(dir), []byte("x"), 0o600) },
			"expired":      func(c *Config) { time.Sleep(leafLife + time.Second) },
		} {
			if err := os.WriteFile(identityPath(dir), whole, 0o600); err != nil {
				t.Fatal(err)
			}
			c := cfg
			c.Registerer = prometheus.NewRegistry()
			edit(&c)
			a, err := New(c)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			select {
			case <-a.Ready():
				t.Errorf("%s: used", name)
			default:
			}
			if _, err := a.ServerTLS(RPCALPN); store.KindOf(err) != store.KindNoLeader {
				t.Errorf("%s: TLS without a certificate: %v", name, err)
			}
		}
	})
}

// TestNoLeaderAtStart gives followers their certificates as soon as there is one.
func TestNoLeaderAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := &dc{w: w, name: "dc1", st: newEmptyState()}
		w.set("dc1", d)
		d.leader.Store(-1)
		for range 3 {
			d.start(nil)
		}
		time.Sleep(time.Hour)
		if err := d.servers[0].Join(t.Context(), "s1.dc2"); !errors.Is(err, store.ErrNoLeader) {
			t.Errorf("join without a leader: %v", err)
		}
		if _, err := d.servers[0].Roots(t.Context(), &rpc.Request{}); !errors.Is(err, store.ErrNoLeader) {
			t.Errorf("roots without a leader: %v", err)
		}
		d.apply(store.Command{Kind: store.CmdCluster, Payload: (&store.Cluster{ID: "id", HistoryID: "h"}).AppendWire(nil)})
		d.leader.Store(2)
		start := time.Now()
		if err := d.lead().EstablishLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range d.servers {
			s.waitReady()
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("ready %v after the first leader", took)
		}
		index := d.trust().ModifyIndex
		d.leader.Store(0)
		if err := d.lead().EstablishLeadership(t.Context()); err != nil || d.trust().ModifyIndex != index {
			t.Errorf("the next leader wrote a record anew: %v", err)
		}
	})
}

func TestClockSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d1, d2 := joined(t, 1)
		v := d2.lead().view.Load()
		chain := []*x509.Certificate{v.creds.leaf, v.creds.intermediate}
		for _, tc := range []struct {
			skew time.Duration
			ok   bool
		}{{0, true}, {-5 * time.Hour, true}, {-7 * time.Hour, false}, {23 * time.Hour, true}, {73 * time.Hour, false}} {
			_, err := verifyChain(chain, d1.lead().view.Load().roots.pool, x509.ExtKeyUsageServerAuth, time.Now().Add(tc.skew))
			if (err == nil) != tc.ok {
				t.Errorf("clock off by %v: %v", tc.skew, err)
			}
		}
	})
}

func TestExpiryWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.add("dc1", 1, nil)
		synctest.Wait()
		a, rec := d.lead(), d.trust()
		a.cancel()
		<-a.done
		root, err := x509.ParseCertificate(rec.Roots[0].DER)
		if err != nil {
			t.Fatal(err)
		}
		var k keeper
		for _, tc := range []struct {
			left time.Duration
			want int
		}{{40 * 24, 0}, {30 * 24, 1}, {29 * 24, 1}, {7 * 24, 2}, {25, 2}, {23, 3}, {1, 3}, {-1, 3}} {
			a.watchExpiry(rec, &k, root.NotAfter.Add(-tc.left*time.Hour))
			if n := strings.Count(a.logs.String(), "certificate=root"); n != tc.want {
				t.Errorf("%d warnings %d hours ahead, want %d", n, tc.left, tc.want)
			}
		}
		if got := testutil.ToFloat64(a.metrics.expires.WithLabelValues("root")); got != float64(root.NotAfter.Unix()) {
			t.Errorf("metric says %v, root expires at %v", got, root.NotAfter.Unix())
		}
	})
}

func TestRootsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := w.add("dc1", 1, func(c *Config) { c.FederationID = "11111111-2222-3333-4444-555555555555" })
		resp, err := d.lead().Roots(t.Context(), &rpc.Request{})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			ActiveRootID, TrustDomain string
			Roots                     []map[string]any
		}
		if err := json.Unmarshal(resp.Body, &got); err != nil {
			t.Fatal(err)
		}
		if got.TrustDomain != "11111111-2222-3333-4444-555555555555.consul" || len(got.Roots) != 1 {
			t.Fatalf("got %s", resp.Body)
		}
		r := got.Roots[0]
		if r["ID"] != got.ActiveRootID || r["Active"] != true || r["PrivateKeyType"] != "ec" || r["PrivateKeyBits"] != 256.0 || r["ExternalTrustDomain"] != "11111111-2222-3333-4444-555555555555" {
			t.Errorf("root %v", r)
		}
		for _, k := range []string{"Name", "SerialNumber", "SigningKeyID", "NotBefore", "NotAfter", "RootCert", "IntermediateCerts", "CreateIndex", "ModifyIndex"} {
			if _, ok := r[k]; !ok {
				t.Errorf("%s is missing", k)
			}
		}
		if !bytes.Contains(resp.Body, []byte(`"IntermediateCerts":null`)) || len(got.ActiveRootID) != 59 {
			t.Errorf("got %s", resp.Body)
		}
		block, _ := pem.Decode([]byte(r["RootCert"].(string)))
		if block == nil || !bytes.Equal(block.Bytes, d.trust().Roots[0].DER) {
			t.Error("RootCert is not the root")
		}
		raw, err := d.lead().Roots(t.Context(), &rpc.Request{Representation: rpc.Raw})
		if err != nil || string(raw.Body) != r["RootCert"] {
			t.Errorf("PEM: %q, %v", raw.Body, err)
		}
		if serial := uint64(r["SerialNumber"].(float64)); !bytes.Contains(resp.Body, []byte(`"Name":"Consul CA Primary Cert"`)) || serial == 0 {
			t.Errorf("serial %d", serial)
		}
		for _, secret := range [][]byte{d.trust().RootKey, d.trust().IntermediateKey} {
			if bytes.Contains(resp.Body, []byte(encode(secret))) {
				t.Error("answers with a key")
			}
		}

		// A blocking query returns on a change, and after its time.
		start := time.Now()
		if _, err := d.lead().Roots(t.Context(), &rpc.Request{MinIndex: resp.Index, Wait: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < time.Minute || took > 64*time.Second {
			t.Errorf("blocked for %v", took)
		}
		go func() {
			time.Sleep(time.Second)
			rec := d.trust().Clone()
			rec.Primary = "dc1"
			if err := d.lead().replace(context.Background(), rec); err != nil {
				t.Error(err)
			}
		}()
		start = time.Now()
		next, err := d.lead().Roots(t.Context(), &rpc.Request{MinIndex: resp.Index, Wait: time.Minute})
		if err != nil || next.Index <= resp.Index || time.Since(start) != time.Second {
			t.Errorf("woke at %v with index %d after %d: %v", time.Since(start), next.Index, resp.Index, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.lead().Roots(ctx, &rpc.Request{MinIndex: next.Index}); store.KindOf(err) != store.KindTimeout {
			t.Errorf("caller left: %v", err)
		}
	})
}

// TestRecordFails refuses the write of either side of a join.
func TestRecordFails(t *testing.T) {
	for _, side := range []string{"dc1", "dc2"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.add("dc1", 2, nil)
				d2 := w.add("dc2", 2, nil)
				before := w.activeRoots()
				w.dcs[side].refuse = func(*store.Trust) error {
					return store.Errorf(store.KindMaybeApplied, "leadership lost while committing log")
				}
				err := d2.lead().Join(t.Context(), "s2.dc1")
				if err == nil || !strings.Contains(err.Error(), "leadership lost") {
					t.Errorf("got %v", err)
				}
				if after := w.activeRoots(); after["dc1"] != before["dc1"] || after["dc2"] != before["dc2"] {
					t.Error("a root changed")
				}
				// It can be repeated, in either direction.
				w.dcs[side].refuse = nil
				if err := w.dcs["dc1"].lead().Join(t.Context(), "s2.dc2"); err != nil {
					t.Fatal(err)
				}
				w.allTalk()
			})
		})
	}
}

func TestConfigErrors(t *testing.T) {
	_, err := New(Config{Datacenter: "DC 1", PrimaryDatacenter: "x.y", FederationID: "a/b"})
	for _, want := range []string{"State is required", "Dial is required", "node name must have", `received: "DC 1"`, "primary_datacenter", "connect.ca_config.cluster_id"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
