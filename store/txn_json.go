package store

import "time"

// TxnRead is what the answer to a read-only transaction says beyond its results.
type TxnRead struct {
	KnownLeader bool
	LastContact time.Duration
}

// AppendJSON appends the outcome as /v1/txn shows it; read is nil for a
// transaction that writes.
func (o *TxnOutcome) AppendJSON(b []byte, read *TxnRead) []byte {
	b = append(b, `{"Results":`...)
	if len(o.Errors) > 0 {
		b = append(b, "null"...)
	} else {
		b = o.appendResults(b)
	}
	b = append(b, `,"Errors":`...)
	if len(o.Errors) == 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		for i, e := range o.Errors {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '{')
			b = fieldInt(b, "OpIndex", e.OpIndex)
			b = fieldString(b, "What", e.What)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	if read != nil {
		b = fieldUint(b, "Index", 1)
		b = fieldInt(b, "LastContact", int(read.LastContact))
		b = fieldBool(b, "KnownLeader", read.KnownLeader)
		b = append(b, `,"ConsistencyLevel":"","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false`...)
	}
	return append(b, '}')
}

func (o *TxnOutcome) appendResults(b []byte) []byte {
	b = append(b, '[')
	at := len(b)
	next := func(kind string) {
		if len(b) > at {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"`...), kind...), `":`...)
	}
	for i := range o.Results {
		r := &o.Results[i]
		switch {
		case r.KV != nil:
			next("KV")
			if r.WithValue {
				b = append(b, r.KV.JSON()...)
			} else {
				b = r.KV.appendJSON(b, nil)
			}
		case r.Node != nil:
			next("Node")
			b = append(b, r.Node.JSON()...)
		case r.Service != nil:
			next("Service")
			b = append(b, r.Service.JSON()...)
		case r.Check != nil:
			next("Check")
			b = append(b, r.Check.JSON()...)
		default:
			for e := range r.Tree {
				next("KV")
				b = append(append(b, e.JSON()...), '}')
			}
			continue
		}
		b = append(b, '}')
	}
	return append(b, ']')
}
