package history

import (
	"fmt"
	"time"
)

// Kind is what a user did.
type Kind uint8

// The kinds of operations.
const (
	Read Kind = iota
	Put
	CAS       // a put that needs the key's ModifyIndex to be Index; 0: no such key
	Delete    // also of a key that is not there
	DeleteCAS // a delete that needs the key's ModifyIndex to be Index
)

func (k Kind) String() string {
	return [...]string{"read", "put", "cas", "delete", "delete-cas"}[k]
}

// Op is one operation of one user on one key.
type Op struct {
	Client int
	Kind   Kind
	Key    string
	How    string // through whom and in which mode, for people

	Value string // written, or read
	Index uint64 // that a CAS or DeleteCAS demands, or that a read came with
	Found bool   // of a read: the key is there
	OK    bool   // of a CAS or DeleteCAS: it took effect
	Done  bool   // there was an answer; without one, a write may or may not happen

	// Call and Return count the events of the Recorder.
	Call, Return int64
	// At is when it was called, and Took how long it took.
	At, Took time.Duration
}

func (o Op) String() string {
	what := fmt.Sprintf("%s %q", o.Kind, o.Value)
	switch o.Kind {
	case Read:
		what = "read nothing"
		if o.Found {
			what = fmt.Sprintf("read %q at index %d", o.Value, o.Index)
		}
	case CAS:
		what += fmt.Sprintf(" over index %d: %t", o.Index, o.OK)
	case Delete:
		what = "delete"
	case DeleteCAS:
		what = fmt.Sprintf("delete at index %d: %t", o.Index, o.OK)
	}
	if !o.Done {
		what += " (no answer)"
	}
	return fmt.Sprintf("[%d,%d] at %s +%s client %d %s: %s", o.Call, o.Return, o.At.Round(time.Millisecond), o.Took.Round(time.Millisecond), o.Client, o.How, what)
}
