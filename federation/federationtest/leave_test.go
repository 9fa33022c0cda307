package federationtest

import (
	"context"
	"net/http"
	"testing"
	"time"
)

// A client agent that leaves as soon as it came does not register itself again
// while it goes: the catalog stays without it.
func TestLeaveRightAfterJoining(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		c := east.Client(0)
		f.Must(c.Leave())
		time.Sleep(5 * time.Second)
		r, err := east.Server(0).Call(context.Background(), http.MethodGet, "/v1/catalog/node/"+c.Name, "")
		f.Must(err)
		if r.Body != "null" {
			t.Errorf("5 s after the leave the catalog has it: %s", r.Body)
		}
	}, DC("east", 3).Clients(1))
}
