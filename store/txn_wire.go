package store

import "landbridge/store/wire"

// AppendWire appends the operation's fields.
func (op *TxnOp) AppendWire(b []byte) []byte {
	b = wire.String(b, 1, string(op.Verb))
	if op.KV != nil {
		b = wire.Message(b, 2, op.KV.AppendWire)
	}
	if op.Node != nil {
		b = wire.Message(b, 3, op.Node.AppendWire)
	}
	if op.Service != nil {
		b = wire.Message(b, 4, op.Service.AppendWire)
	}
	if op.Check != nil {
		b = wire.Message(b, 5, op.Check.AppendWire)
	}
	return b
}

// DecodeWire replaces op by what AppendWire wrote.
func (op *TxnOp) DecodeWire(b []byte) error {
	*op = TxnOp{}
	d := wire.NewDecoder(b)
	for d.Next() {
		var err error
		switch d.Field {
		case 1:
			op.Verb = verb(d.Bytes())
		case 2:
			op.KV = new(KVEntry)
			err = op.KV.DecodeWire(d.Bytes())
		case 3:
			op.Node = new(Node)
			err = op.Node.DecodeWire(d.Bytes())
		case 4:
			op.Service = new(Service)
			err = op.Service.DecodeWire(d.Bytes())
		case 5:
			op.Check = new(Check)
			err = op.Check.DecodeWire(d.Bytes())
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

// verb returns the constant of a word where there is one: no operation needs a
// copy of its own.
func verb(b []byte) TxnVerb {
	switch string(b) {
	case "set":
		return TxnSet
	case "cas":
		return TxnCAS
	case "get":
		return TxnGet
	case "delete":
		return TxnDelete
	case "check-index":
		return TxnCheckIndex
	case "get-or-empty":
		return TxnGetOrEmpty
	}
	return TxnVerb(b)
}

// maxWireOps bounds what a decoder takes: an empty operation is two bytes on the
// wire and many times that in memory.
const maxWireOps = 16 * MaxTxnOps

// AppendWire appends the command's fields.
func (c *TxnCommand) AppendWire(b []byte) []byte {
	for i := range c.Ops {
		b = wire.Message(b, 1, c.Ops[i].AppendWire)
	}
	return b
}

// DecodeWire replaces c by what AppendWire wrote.
func (c *TxnCommand) DecodeWire(b []byte) error {
	*c = TxnCommand{}
	return eachElement(b, func(b []byte) error {
		if len(c.Ops) == maxWireOps {
			return Errorf(KindTooLarge, "a transaction of more than %d operations", maxWireOps)
		}
		var op TxnOp
		err := op.DecodeWire(b)
		c.Ops = append(c.Ops, op)
		return err
	})
}
