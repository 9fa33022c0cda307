package store

import "landbridge/store/wire"

// CatalogWrite is one change of the catalog: exactly one of Register and
// Deregister is set.
type CatalogWrite struct {
	Register   *RegisterCommand
	Deregister *DeregisterCommand
	Token      string // secret; "" for the sender's own
}

// CatalogBatch is what an agent has the catalog told in one call. Its writes are
// made in order, and each has an outcome of its own.
type CatalogBatch struct{ Writes []CatalogWrite }

// CatalogOutcome is the answer: an error for each write, nil where it was made.
type CatalogOutcome struct{ Errors []error }

// MaxCatalogBatch bounds the writes of a batch: an empty one takes two bytes on
// the wire and many times that in memory.
const MaxCatalogBatch = 4096

// AppendWire appends the batch's fields.
func (c *CatalogBatch) AppendWire(b []byte) []byte {
	for i := range c.Writes {
		w := &c.Writes[i]
		b = wire.Message(b, 1, func(b []byte) []byte {
			if w.Register != nil {
				b = wire.Message(b, 1, w.Register.AppendWire)
			}
			if w.Deregister != nil {
				b = wire.Message(b, 2, w.Deregister.AppendWire)
			}
			return wire.String(b, 3, w.Token)
		})
	}
	return b
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *CatalogBatch) DecodeWire(b []byte) error {
	*c = CatalogBatch{}
	return eachElement(b, func(b []byte) error {
		if len(c.Writes) == MaxCatalogBatch {
			return Errorf(KindTooLarge, "a batch of more than %d changes of the catalog", MaxCatalogBatch)
		}
		var w CatalogWrite
		d := wire.NewDecoder(b)
		for d.Next() {
			var err error
			switch d.Field {
			case 1:
				w.Register = new(RegisterCommand)
				err = w.Register.DecodeWire(d.Bytes())
			case 2:
				w.Deregister = new(DeregisterCommand)
				err = w.Deregister.DecodeWire(d.Bytes())
			case 3:
				w.Token = d.String()
			}
			if err != nil {
				return err
			}
		}
		if err := d.Err(); err != nil {
			return err
		}
		if (w.Register == nil) == (w.Deregister == nil) {
			return Errorf(KindInvalid, "a change of the catalog that is not one of registration and removal")
		}
		c.Writes = append(c.Writes, w)
		return nil
	})
}

// AppendWire appends the outcome's fields.
func (c *CatalogOutcome) AppendWire(b []byte) []byte {
	for _, err := range c.Errors {
		b = wire.Message(b, 1, func(b []byte) []byte {
			if err == nil {
				return b
			}
			b = wire.Bool(b, 1, true)
			b = wire.Uint(b, 2, uint64(KindOf(err)))
			return wire.String(b, 3, err.Error())
		})
	}
	return b
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *CatalogOutcome) DecodeWire(b []byte) error {
	*c = CatalogOutcome{}
	return eachElement(b, func(b []byte) error {
		if len(c.Errors) == MaxCatalogBatch {
			return Errorf(KindTooLarge, "an outcome of more than %d changes of the catalog", MaxCatalogBatch)
		}
		e := &Error{}
		failed := false
		d := wire.NewDecoder(b)
		for d.Next() {
			switch d.Field {
			case 1:
				failed = d.Bool()
			case 2:
				if k := d.Uint(); k <= uint64(KindNotBuilt) {
					e.Kind = Kind(k)
				}
			case 3:
				e.Message = d.String()
			}
		}
		var err error
		if failed {
			err = e
		}
		c.Errors = append(c.Errors, err)
		return d.Err()
	})
}
