package federationtest_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// cached is a health answer of the client agent's cache.
type cached struct {
	hit         bool
	age         time.Duration
	lastContact time.Duration
	leader      bool
	body        string
}

func askCached(h *Host, service string) (cached, error) {
	r, err := h.Call(context.Background(), http.MethodGet, "/v1/health/service/"+service+"?cached", "")
	if err != nil {
		return cached{}, err
	}
	if r.Code != http.StatusOK {
		return cached{}, fmt.Errorf("%d: %s", r.Code, r.Body)
	}
	age, _ := strconv.Atoi(r.Header.Get("Age"))
	contact, err := strconv.Atoi(r.Header.Get("X-Consul-LastContact"))
	return cached{r.Header.Get("X-Cache") == "HIT", time.Duration(age) * time.Second, time.Duration(contact) * time.Millisecond,
		r.Header.Get("X-Consul-KnownLeader") == "true", r.Body}, err
}

func register(h *Host, name, addr string) error {
	r, err := h.Call(context.Background(), http.MethodPut, "/v1/catalog/register",
		fmt.Sprintf(`{"Node":%q,"Address":%q,"Service":{"Service":"web","Port":80}}`, name, addr))
	if err == nil && r.Code != http.StatusOK {
		err = fmt.Errorf("%d: %s", r.Code, r.Body)
	}
	return err
}

// callsAt is how many calls of other agents a server has not answered yet.
func callsAt(h *Host) (int, error) {
	r, err := h.Call(context.Background(), http.MethodGet, "/metrics", "")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(r.Body) {
		if v, ok := strings.CutPrefix(line, "landbridge_rpc_server_in_flight_calls "); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return 0, fmt.Errorf("%s has no such metric", h.Name)
}

// A client agent loses one server after the other. Who waits for a change is not
// disturbed as long as one is left; when none is, the agent answers from what it
// has, with its age; and when they are back, with what is.
func TestClientAgentWithoutServers(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		client := east.Client(0)
		f.Must(register(client, "a", "10.9.0.1"))
		f.Await(2*time.Second, "all servers have it", func() error {
			for _, s := range east.Servers() {
				r, err := s.Call(context.Background(), http.MethodGet, "/v1/health/service/web?stale", "")
				if err != nil || !strings.Contains(r.Body, "10.9.0.1") {
					return fmt.Errorf("%s: %v, %v", s.Name, r, err)
				}
			}
			return nil
		})
		first, err := askCached(client, "web")
		f.Must(err)
		second, err := askCached(client, "web")
		f.Must(err)
		if first.hit || !second.hit || second.age != 0 || !second.leader || !strings.Contains(second.body, "10.9.0.1") {
			t.Errorf("the first answers are %+v and %+v", first, second)
		}

		// A hundred readers wait for a change while their server dies.
		woken := make(chan *Reply, 100)
		r, err := client.Call(context.Background(), http.MethodGet, "/v1/health/service/web", "")
		f.Must(err)
		for range cap(woken) {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
				defer cancel()
				r, err := client.Call(ctx, http.MethodGet, "/v1/health/service/web?wait=5m&index="+r.Header.Get("X-Consul-Index"), "")
				if err != nil {
					t.Error(err)
				}
				woken <- r
			}()
		}
		time.Sleep(30 * time.Second) // longer than a request is held for a server
		using, most := east.Server(0), -1
		for _, s := range east.Servers() {
			n, err := callsAt(s)
			f.Must(err)
			if n > most {
				using, most = s, n
			}
		}
		if most != 2 { // one of the view, and one of all the readers
			t.Errorf("%d calls wait at %s, want 2", most, using.Name)
		}
		using.Crash()
		f.Await(20*time.Second, "the client agent follows another server", func() error {
			got, err := askCached(client, "web")
			if err == nil && (!got.hit || got.age != 0) {
				err = fmt.Errorf("%+v", got)
			}
			return err
		})
		if n := len(woken); n != 0 {
			t.Errorf("%d readers were woken by the death of their server", n)
		}
		f.Await(10*time.Second, "a write", func() error { return register(client, "b", "10.9.0.2") })
		f.Await(2*time.Second, "all readers see it", func() error {
			if len(woken) < cap(woken) {
				return fmt.Errorf("%d have", len(woken))
			}
			return nil
		})
		for range cap(woken) {
			if r := <-woken; r.Code != http.StatusOK || !strings.Contains(r.Body, "10.9.0.2") {
				t.Fatalf("a reader was woken with %d: %.200s", r.Code, r.Body)
			}
		}

		f.Await(2*time.Second, "the view has it too", func() error {
			got, err := askCached(client, "web")
			if err == nil && !strings.Contains(got.body, "10.9.0.2") {
				err = fmt.Errorf("%+v", got)
			}
			return err
		})
		for _, s := range east.Servers() {
			if s.Running() {
				s.Crash()
			}
		}
		crashed := f.Now()
		for _, at := range []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute} {
			time.Sleep(at - (f.Now() - crashed))
			got, err := askCached(client, "web")
			f.Must(err)
			// Up to two seconds more: one that nobody could notice, and whole ones count.
			if !got.hit || got.age < at-2*time.Second || got.age > at+2*time.Second || got.lastContact < got.age || !strings.Contains(got.body, "10.9.0.2") {
				t.Errorf("%v after the last server died: %+v", at, got)
			}
			if at > time.Second && got.leader {
				t.Errorf("%v after the last server died there is a leader", at)
			}
		}
		if r, err := client.Call(context.Background(), http.MethodGet, "/v1/health/service/web", ""); err != nil || r.Code != 500 || r.Body != "No known Consul servers" {
			t.Errorf("without ?cached: %+v, %v", r, err)
		}
		if r, err := client.Call(context.Background(), http.MethodGet, "/v1/health/service/web?cached&max_stale=1m", ""); err != nil || r.Code != 500 {
			t.Errorf("older than its reader allows: %+v, %v", r, err)
		}

		for _, s := range east.Servers() {
			s.Restart()
		}
		f.Await(30*time.Second, "the client agent finds a server", func() error { return register(client, "c", "10.9.0.3") })
		f.Await(12*time.Second, "its view is current", func() error {
			got, err := askCached(client, "web")
			if err == nil && (got.age != 0 || !got.leader || !strings.Contains(got.body, "10.9.0.3")) {
				err = fmt.Errorf("%+v", got)
			}
			return err
		})
	}, DC("east", 3).Clients(1))
}
