package state

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"landbridge/store"
)

func coordinate(node string, x float64) *store.Coordinate {
	c := &store.Coordinate{Node: node, Coord: store.Coord{Vec: make([]float64, store.CoordinateDimensions), Height: 1e-5}}
	c.Coord.Vec[0] = x
	return c
}

func coordinates(list ...*store.Coordinate) *store.CoordinatesCommand {
	return &store.CoordinatesCommand{Updates: list}
}

func names(s *Store) (store.Index, string) {
	idx, list := s.Coordinates(nil)
	var out []string
	for _, c := range list {
		out = append(out, c.Node)
	}
	return idx, strings.Join(out, " ")
}

func TestCoordinates(t *testing.T) {
	s := New()
	for _, n := range []string{"Web", "db", "api"} {
		must(t, s, store.CmdRegister, register(n))
	}
	w := s.NewWatch()
	defer w.Close()
	if idx, list := s.Coordinates(w); idx != firstIndex || len(list) != 0 {
		t.Fatalf("an empty table has index %d and %d rows", idx, len(list))
	}
	short, broken := coordinate("api", 1), coordinate("api", math.NaN())
	short.Coord.Vec = short.Coord.Vec[1:]
	must(t, s, store.CmdCoordinates, coordinates(coordinate("ghost", 1), short, broken))
	if idx, list := names(s); idx != firstIndex || list != "" || fired(w) {
		t.Errorf("unknown nodes and broken coordinates gave index %d, %q", idx, list)
	}

	at := must(t, s, store.CmdCoordinates, coordinates(coordinate("web", 1), coordinate("db", 2)))
	if idx, list := names(s); idx != at || list != "db Web" {
		t.Errorf("index %d, %q, want %d, db and Web as registered", idx, list, at)
	}
	if !fired(w) {
		t.Error("the watch did not fire")
	}

	s.Coordinates(w)
	must(t, s, store.CmdCoordinates, coordinates(coordinate("DB", 2)))
	if idx, _ := names(s); idx != at || fired(w) {
		t.Errorf("the same again gave index %d, want %d, and no wake-up", idx, at)
	}
	at = must(t, s, store.CmdCoordinates, coordinates(coordinate("db", 3)))
	if idx, c := s.Coordinate(nil, "Db"); idx != at || c == nil || c.Coord.Vec[0] != 3 || c.ModifyIndex != at || !fired(w) {
		t.Errorf("db is %+v at %d, want 3 at %d", c, idx, at)
	}
	got := s.CoordinatesOf([]string{"api", "WEB", "ghost"})
	if got[0] != nil || got[1] == nil || got[1].Node != "Web" || got[2] != nil {
		t.Errorf("CoordinatesOf gave %v", got)
	}

	c := copyOf(t, s)
	if diff := cmp.Diff(s.CoordinatesOf([]string{"web", "db"}), c.CoordinatesOf([]string{"web", "db"})); diff != "" {
		t.Errorf("after a snapshot:\n%s", diff)
	}
	if idx, list := names(c); idx != at || list != "db Web" {
		t.Errorf("after a snapshot: index %d, %q", idx, list)
	}

	s.Coordinates(w)
	gone := must(t, s, store.CmdDeregister, &store.DeregisterCommand{Node: "db"})
	if idx, list := names(s); idx != gone || list != "Web" || !fired(w) {
		t.Errorf("after the node went: index %d, %q, want %d and a wake-up", idx, list, gone)
	}
	if idx, list := names(copyOf(t, s)); idx != gone || list != "Web" {
		t.Errorf("a snapshot forgets the removal's index: %d, %q, want %d", idx, list, gone)
	}
	plain := must(t, s, store.CmdDeregister, &store.DeregisterCommand{Node: "api"})
	if idx, _ := names(s); idx != gone {
		t.Errorf("a node without coordinate left at %d and the index is %d, want %d", plain, idx, gone)
	}
}

func TestImageRefusesCoordinates(t *testing.T) {
	for name, spoil := range map[string]func(*store.Coordinate){
		"no node": func(c *store.Coordinate) { c.Node = "ghost" },
		"twice":   func(c *store.Coordinate) {},
		"short":   func(c *store.Coordinate) { c.Node, c.Coord.Vec = "b", nil },
	} {
		im := NewImage(Header{Index: 9})
		for _, n := range []string{"a", "b"} {
			if err := im.Add(recordNode, (&store.Node{Node: n}).AppendWire(nil)); err != nil {
				t.Fatal(err)
			}
		}
		if err := im.Add(recordCoordinate, coordinate("a", 1).AppendWire(nil)); err != nil {
			t.Fatal(err)
		}
		c := coordinate("a", 1)
		spoil(c)
		if err := im.Add(recordCoordinate, c.AppendWire(nil)); err == nil {
			t.Errorf("%s: the image took it", name)
		}
	}
}
