package federationtest_test

import (
	"fmt"
	"testing"
	"time"

	. "landbridge/federation/federationtest"
)

// Three servers and a client agent find each other and answer.
func TestOneDatacenter(t *testing.T) {
	Run(t, func(f *Federation) {
		east := f.DC("east")
		t.Logf("formed after %s", f.Now())
		raft, err := east.Client(0).Raft()
		f.Must(err)
		if len(raft) != 3 {
			t.Errorf("the Raft group is %v, want three servers", raft)
		}
		for i, h := range east.Hosts() {
			key := fmt.Sprintf("k%d", i)
			f.Must(h.Put(key, h.Name))
			for _, reader := range east.Hosts() {
				f.Must(reader.Expect(key, h.Name))
			}
		}
		_ = time.Second
	}, DC("east", 3).Clients(1))
}
