package store

import (
	"encoding/binary"
	"math"

	"landbridge/store/wire"
)

// AppendWire appends the numbers: the vector packed, 8 bytes each.
func (c *Coord) AppendWire(b []byte) []byte {
	if len(c.Vec) > 0 {
		packed := make([]byte, 0, 8*CoordinateDimensions)
		for _, v := range c.Vec {
			packed = binary.LittleEndian.AppendUint64(packed, math.Float64bits(v))
		}
		b = wire.Bytes(b, 1, packed)
	}
	b = wire.Uint(b, 2, math.Float64bits(c.Error))
	b = wire.Uint(b, 3, math.Float64bits(c.Adjustment))
	return wire.Uint(b, 4, math.Float64bits(c.Height))
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *Coord) DecodeWire(b []byte) error {
	*c = Coord{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			for p := d.Bytes(); len(p) >= 8; p = p[8:] {
				c.Vec = append(c.Vec, math.Float64frombits(binary.LittleEndian.Uint64(p)))
			}
		case 2:
			c.Error = math.Float64frombits(d.Uint())
		case 3:
			c.Adjustment = math.Float64frombits(d.Uint())
		case 4:
			c.Height = math.Float64frombits(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the record's fields.
func (c *Coordinate) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, c.Node)
	b = wire.Message(b, 2, c.Coord.AppendWire)
	return wire.Uint(b, 3, uint64(c.ModifyIndex))
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *Coordinate) DecodeWire(b []byte) error {
	*c = Coordinate{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case 1:
			c.Node = d.String()
		case 2:
			if err := c.Coord.DecodeWire(d.Bytes()); err != nil {
				return err
			}
		case 3:
			c.ModifyIndex = Index(d.Uint())
		}
	}
	return d.Err()
}

// AppendWire appends the command's fields.
func (c *CoordinatesCommand) AppendWire(b []byte) []byte { return AppendCoordinates(b, c.Updates) }

// DecodeWire replaces c by what AppendWire wrote.
func (c *CoordinatesCommand) DecodeWire(b []byte) (err error) {
	c.Updates, err = DecodeCoordinates(b)
	return err
}

// AppendCoordinates appends a list of coordinates.
func AppendCoordinates(b []byte, list []*Coordinate) []byte {
	for _, c := range list {
		b = wire.Message(b, 1, c.AppendWire)
	}
	return b
}

// DecodeCoordinates reads what AppendCoordinates wrote.
func DecodeCoordinates(b []byte) ([]*Coordinate, error) { return decodeList[Coordinate](b) }
