package federationtest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// An agent whose process ends while its machine goes on is critical within seconds,
// whichever server it was connected to, and passing again soon after it is back; one
// that is started again sooner than gossip could fail it never is.
func TestProcessThatEnds(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		leader := east.AwaitLeader(time.Minute)
		const clients = 4 // as many as below
		passing := func(h *Host) func() error { return func() error { return leader.Healthy(h.Name) } }
		critical := func(h *Host) func() error {
			return func() error {
				if leader.Healthy(h.Name) == nil {
					return errors.New("serfHealth passes")
				}
				return nil
			}
		}
		for i := range clients {
			f.Await(time.Minute, "the client agent is in the catalog", passing(east.Client(i)))
		}
		for i := range clients {
			client := east.Client(i)
			f.Must(client.Put(fmt.Sprintf("k%d", i), "v")) // it has a connection
			client.Stop()
			if took := f.Await(15*time.Second, "serfHealth is critical", critical(client)); took > 6*time.Second || took < 3*time.Second {
				t.Errorf("%s was critical after %v, want 3 to 6 s", client.Name, took)
			}
			client.Restart()
			f.Await(30*time.Second, "serfHealth passes again", passing(client))
		}
		client := east.Client(0)
		time.Sleep(time.Minute)
		f.Must(client.Put("k", "v"))
		client.Stop()
		for end := f.Now() + 30*time.Second; f.Now() < end; time.Sleep(100 * time.Millisecond) {
			if !client.Running() && f.Now() > end-28*time.Second {
				client.Restart()
			}
			f.Must(leader.Healthy(client.Name))
		}
	}, DC("east", 3).Clients(4))
}
