package leader

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"landbridge/store"
)

func coordinate(node string, x float64) *store.Coordinate {
	c := &store.Coordinate{Node: node, Coord: store.Coord{Vec: make([]float64, store.CoordinateDimensions)}}
	c.Coord.Vec[0] = x
	return c
}

func TestCoordinatesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		w.add(1, 1).start()
		l := w.leader()
		time.Sleep(time.Second)
		bad := coordinate("s1", 1)
		bad.Coord.Vec = bad.Coord.Vec[:3]
		if err := l.lead.UpdateCoordinate(bad); err == nil || err.Error() != "incompatible coordinate" || store.KindOf(err) != store.KindInvalid {
			t.Errorf("three dimensions: %v", err)
		}
		index := l.state.Index()
		for i := range 10 {
			for _, c := range []*store.Coordinate{coordinate("s1", float64(i)), coordinate("ghost", 1)} {
				if err := l.lead.UpdateCoordinate(c); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := l.state.Index(); got != index {
			t.Errorf("%d commands were written at once", got-index)
		}
		time.Sleep(coordinateEvery)
		_, list := l.state.Coordinates(nil)
		if len(list) != 1 || list[0].Node != "s1" || list[0].Coord.Vec[0] != 9 {
			t.Errorf("stored: %v, want the newest of s1", list)
		}
		if got := l.state.Index(); got != index+1 {
			t.Errorf("%d commands, want one", got-index)
		}
		index = l.state.Index()
		time.Sleep(time.Minute)
		if got := l.state.Index(); got != index {
			t.Errorf("nothing new wrote %d commands", got-index)
		}
	})
}

func TestCoordinatesNeedALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		s := w.add(1, 3).start() // waits for two others, for ever
		if err := s.lead.UpdateCoordinate(coordinate("s1", 1)); store.KindOf(err) != store.KindNoLeader {
			t.Errorf("before there is a leader: %v", err)
		}
	})
}

func TestCoordinatesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		w.add(1, 1).start()
		l := w.leader()
		time.Sleep(time.Second)
		index := l.state.Index()
		const most = coordinateBatch * coordinateBatches
		for i := range most + 50 {
			if err := l.lead.UpdateCoordinate(coordinate(fmt.Sprintf("n%d", i), 1)); err != nil {
				t.Fatal(err)
			}
		}
		l.lead.coords.mu.Lock()
		kept := len(l.lead.coords.pending)
		l.lead.coords.mu.Unlock()
		if kept != most {
			t.Errorf("%d are kept, want %d", kept, most)
		}
		time.Sleep(coordinateEvery)
		if got := l.state.Index(); got != index+coordinateBatches {
			t.Errorf("%d commands, want %d", got-index, coordinateBatches)
		}
	})
}

// A leader that is no longer one refuses, so that the dispatcher looks for the new.
func TestCoordinatesFollowLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		for n := range 3 {
			w.add(n+1, 3).start()
		}
		l := w.leader()
		time.Sleep(time.Second)
		for _, s := range w.servers {
			err := s.lead.UpdateCoordinate(coordinate(l.name, 1))
			if (err == nil) != (s == l) || err != nil && !strings.Contains(err.Error(), "No cluster leader") {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		time.Sleep(2 * coordinateEvery)
		for _, s := range w.servers {
			if _, list := s.state.Coordinates(nil); len(list) != 1 {
				t.Errorf("%s has %d coordinates", s.name, len(list))
			}
		}
	})
}
