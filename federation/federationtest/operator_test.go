package federationtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// ask sends a request of an operator and wants a status.
func ask(f *Federation, h *Host, method, path string, want int) string {
	f.T.Helper()
	r, err := h.Call(context.Background(), method, "/v1/operator/"+path, "")
	f.Must(err)
	if r.Code != want {
		f.T.Fatalf("at %s: %s %s of %s: %d %s, want %d", f.Now(), method, path, h.Name, r.Code, r.Body, want)
	}
	return r.Body
}

// An operator of the west looks after the east: leadership goes where it is sent,
// health tells a dead server from a quiet one, and who is removed comes back.
func TestOperators(t *testing.T) {
	Run(t, func(f *Federation) {
		east, west := f.DC("east"), f.DC("west")
		f.Must(east.Server(0).Join(west.Server(0)))
		from := west.Client(0)
		f.Await(10*time.Second, "the west reads the east", func() error { return from.Put("k", "v", "dc=east") })
		f.Await(30*time.Second, "all are healthy", func() error {
			r, err := from.Call(context.Background(), http.MethodGet, "/v1/operator/autopilot/health?dc=east", "")
			if err == nil && r.Code != 200 {
				err = fmt.Errorf("%d %s", r.Code, r.Body)
			}
			return err
		})

		next := east.Followers()[0]
		group, err := east.Leader().Raft()
		f.Must(err)
		if got := ask(f, from, "POST", "raft/transfer-leader?dc=east&id="+group[next.Name].ID, 200); got != `{"Success":true}` {
			t.Errorf("the transfer answers %s", got)
		}
		if leader := east.AwaitLeader(time.Second); leader != next {
			t.Errorf("%s leads, want %s", leader.Name, next.Name)
		}
		f.Must(from.Expect("k", "v", "dc=east"))

		victim := east.Followers()[0]
		ask(f, from, "DELETE", "raft/peer?dc=east&id="+group[victim.Name].ID, 200)
		if group, err = next.Raft(); err != nil || len(group) != 2 {
			t.Errorf("after the removal the group is %v, %v", group, err)
		}
		f.Await(90*time.Second, "a living server is taken in again, and votes", func() error { return votes(next, victim) })

		victim.Crash()
		f.Await(10*time.Second, "the east is not healthy", func() error {
			r, err := from.Call(context.Background(), http.MethodGet, "/v1/operator/autopilot/health?dc=east", "")
			if err == nil && r.Code != 429 {
				err = fmt.Errorf("%d %s", r.Code, r.Body)
			}
			return err
		})
		var health struct {
			FailureTolerance int
			Servers          []struct {
				Name    string
				Healthy bool
			}
		}
		f.Must(json.Unmarshal([]byte(ask(f, from, "GET", "autopilot/health?dc=east", 429)), &health))
		for _, s := range health.Servers {
			if s.Healthy == (s.Name == victim.Name) {
				t.Errorf("with %s down, health says %+v", victim.Name, health)
			}
		}
		if len(health.Servers) != 3 || health.FailureTolerance != 0 || health.Servers[0].Name != next.Name {
			t.Errorf("health is %+v, want three servers, the leader first, and no tolerance", health)
		}
		ask(f, from, "DELETE", "raft/peer?dc=east&address=10.9.9.9:8300", 500)

		var usage struct {
			Usage map[string]struct{ Nodes, Services, BillableServiceInstances int }
		}
		f.Must(json.Unmarshal([]byte(ask(f, from, "GET", "usage?global", 200)), &usage))
		if u := usage.Usage; len(u) != 2 || u["east"].Nodes != 3 || u["west"].Nodes != 2 || u["east"].Services != 1 || u["east"].BillableServiceInstances != 0 {
			t.Errorf("usage is %+v", u)
		}
	}, DC("east", 3), DC("west", 1).Clients(1))
}
