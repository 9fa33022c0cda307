package store

import (
	"math"
	"strconv"
)

// AppendJSON appends the numbers as the HTTP API shows them.
func (c *Coord) AppendJSON(b []byte) []byte {
	b = append(b, `{"Vec":[`...)
	for i, v := range c.Vec {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFloat(b, v)
	}
	b = appendFloat(append(b, `],"Error":`...), c.Error)
	b = appendFloat(append(b, `,"Adjustment":`...), c.Adjustment)
	b = appendFloat(append(b, `,"Height":`...), c.Height)
	return append(b, '}')
}

// appendFloat writes a finite number as encoding/json does: with an exponent only
// where digits would be many. JSON has no others; a stored coordinate is Valid.
func appendFloat(b []byte, v float64) []byte {
	form := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		form = 'e'
	}
	b = strconv.AppendFloat(b, v, form, -1, 64)
	if n := len(b); form == 'e' && n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b[n-2] = b[n-1] // e-09 is e-9
		b = b[:n-1]
	}
	return b
}

// AppendJSON appends the coordinate as the HTTP API shows it.
func (c *Coordinate) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "Node", c.Node)
	b = fieldString(b, "Segment", "")
	b = c.Coord.AppendJSON(field(b, "Coord"))
	return append(b, '}')
}

// AppendCoordinatesJSON appends a list of coordinates; none is [].
func AppendCoordinatesJSON(b []byte, list []*Coordinate) []byte {
	b = append(b, '[')
	for i, c := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = c.AppendJSON(b)
	}
	return append(b, ']')
}

// AppendJSON appends the datacenter as /v1/coordinate/datacenters shows it.
func (d *DatacenterCoordinates) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = fieldString(b, "Datacenter", d.Datacenter)
	b = fieldString(b, "AreaID", "wan")
	b = AppendCoordinatesJSON(field(b, "Coordinates"), d.Coordinates)
	return append(b, '}')
}
