package store

import (
	"math"
	"slices"
	"time"
)

// CoordinateDimensions is how many numbers a coordinate's vector has.
const CoordinateDimensions = 8

// Coord is a place in a Vivaldi space: its distance to another estimates the
// round trip between the two, in seconds.
type Coord struct {
	Vec        []float64
	Error      float64 // how far it may be off; 1.5 at first
	Adjustment float64
	Height     float64 // of the access link, which the space does not model
}

// Valid reports whether the coordinate has the dimensions that all have, and
// only finite numbers. Distances are defined between valid ones.
func (c *Coord) Valid() bool {
	if len(c.Vec) != CoordinateDimensions {
		return false
	}
	for _, v := range append([]float64{c.Error, c.Adjustment, c.Height}, c.Vec...) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// Distance estimates the round trip to another place (spec
// http-query-event-coordinate 3): the adjustments count unless they would make it
// negative.
func (c *Coord) Distance(to *Coord) time.Duration {
	var sum float64
	for i := range min(len(c.Vec), len(to.Vec)) {
		d := c.Vec[i] - to.Vec[i]
		sum += d * d
	}
	rtt := math.Sqrt(sum) + c.Height + to.Height
	if adjusted := rtt + c.Adjustment + to.Adjustment; adjusted > 0 {
		rtt = adjusted
	}
	return time.Duration(rtt * float64(time.Second))
}

// Equal reports whether all numbers are the same.
func (c *Coord) Equal(o *Coord) bool {
	return c.Error == o.Error && c.Adjustment == o.Adjustment && c.Height == o.Height && slices.Equal(c.Vec, o.Vec)
}

// Coordinate is where a node is. Immutable once published by the state store.
type Coordinate struct {
	Node        string
	Coord       Coord
	ModifyIndex Index
}

// CoordinatesCommand is the payload of CmdCoordinates: what the agents of a
// datacenter told the leader in the last seconds. Nodes that the catalog does
// not know are left out.
type CoordinatesCommand struct {
	Updates []*Coordinate
}

// DatacenterCoordinates are a datacenter's servers in the WAN, in the records
// representation. Node is the server's name in its own datacenter.
type DatacenterCoordinates struct {
	Datacenter  string
	Coordinates []*Coordinate
}
