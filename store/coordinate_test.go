package store

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func flat(x float64) Coord {
	c := Coord{Vec: make([]float64, CoordinateDimensions), Error: 1.5}
	c.Vec[0] = x
	return c
}

func TestDistance(t *testing.T) {
	high := flat(0.003)
	high.Height = 0.001
	low := flat(0)
	low.Adjustment = -0.0005
	far := low
	far.Adjustment = -1 // would make it negative: left out
	for _, tt := range []struct {
		name string
		a, b Coord
		want time.Duration
	}{
		{"same place", flat(0.2), flat(0.2), 0},
		{"vector", flat(0), flat(0.01), 10 * time.Millisecond},
		{"height", flat(0), high, 4 * time.Millisecond},
		{"adjustment", low, high, 3500 * time.Microsecond},
		{"adjustment below zero", far, high, 4 * time.Millisecond},
	} {
		for range 2 {
			if got := tt.a.Distance(&tt.b).Round(time.Microsecond); got != tt.want {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
			tt.a, tt.b = tt.b, tt.a
		}
	}
}

func TestCoordValid(t *testing.T) {
	good := flat(1)
	if !good.Valid() {
		t.Error("a plain coordinate is not valid")
	}
	for name, spoil := range map[string]func(*Coord){
		"short":      func(c *Coord) { c.Vec = c.Vec[1:] },
		"long":       func(c *Coord) { c.Vec = append(c.Vec, 0) },
		"NaN":        func(c *Coord) { c.Vec[3] = math.NaN() },
		"infinite":   func(c *Coord) { c.Height = math.Inf(-1) },
		"error":      func(c *Coord) { c.Error = math.NaN() },
		"adjustment": func(c *Coord) { c.Adjustment = math.Inf(1) },
	} {
		c := flat(1)
		if spoil(&c); c.Valid() {
			t.Errorf("%s: %+v is valid", name, c)
		}
	}
}

// The hand-written form is byte for byte that of encoding/json.
func TestCoordinateJSON(t *testing.T) {
	type shape struct {
		Node    string
		Segment string
		Coord   Coord
	}
	rapid.Check(t, func(t *rapid.T) {
		c := genCoordinate(t)
		if c.Coord.Vec == nil {
			c.Coord.Vec = []float64{}
		}
		want, err := json.Marshal(shape{Node: c.Node, Coord: c.Coord})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.AppendJSON(nil); string(got) != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
	d := DatacenterCoordinates{Datacenter: "dc1"}
	if got, want := string(d.AppendJSON(nil)), `{"Datacenter":"dc1","AreaID":"wan","Coordinates":[]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
