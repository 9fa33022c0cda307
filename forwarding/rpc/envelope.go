package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"landbridge/store"
	"landbridge/store/acl"
)

// Representation is the form in which the server that answers encodes a body.
type Representation uint8

const (
	JSON    Representation = 0
	Pretty  Representation = 1 // indented by four spaces, with a final newline
	Raw     Representation = 2 // the value's bytes (KV.Get)
	Records Representation = 3 // wire messages, for DNS, agents and views
)

// Origin says where a request entered this process. It is set by whoever
// received it and never travels.
type Origin uint8

const (
	FromHere Origin = iota // our own HTTP, DNS, agent or tasks
	FromLAN                // a peer of our datacenter
	FromWAN                // an authenticated server of another datacenter
)

// MaxHops bounds how often a request is passed on: client -> server -> other
// datacenter -> its leader is 3. More is a loop, and refused.
const MaxHops = 5

// Request is one call. It is not changed after it was handed to Do, except that
// each hop sends a copy with its own Hops and remaining time: the deadline is
// the context's, and travels as what is left of it.
type Request struct {
	Method         MethodID
	Datacenter     string // "" or the own name: here
	Token          string // secret; never logged
	Consistency    store.Consistency
	MaxStale       time.Duration // with Stale: how old at most; 0 = any
	MinIndex       store.Index   // > 0: block until the query's index exceeds it
	Wait           time.Duration // of a blocking query; 0 = default, capped by the server
	Filter         string        // go-bexpr expression, "" = none
	Representation Representation
	TranslateWAN   bool   // the reader wants WAN addresses of foreign datacenters
	SourceDC       string // the reader's datacenter
	Hops           uint8
	Query          store.Query // reads
	Body           []byte      // writes and internal messages

	// Upload is a body of any size, for methods with Stream: it is read as it is
	// sent on, so a request of which some was read is not sent twice. Closing it
	// also ends a Read under way: a client does so when its call is over. Whoever
	// made it may not use it before Do has returned.
	Upload io.ReadCloser

	// NoHold is set by a caller that tries again by itself, and wants to know at
	// once when a server does not answer: nothing is held for a leader or for
	// another server on its side. Local: it does not travel.
	NoHold bool

	// Bearer is who asks, with what it may do: Token, resolved by the server that
	// answers. nil: ACLs are off, and everything is allowed. Local, and set by
	// forwarding/endpoint alone.
	Bearer *acl.Bearer

	Origin Origin // local
	Peer   string // local: name of the authenticated peer it came from, "" = here
	NoWait bool   // local: fail with ErrWouldWait rather than wait
}

// Stream is the part of an answer that nobody holds in memory.
type Stream interface {
	// WriteTo writes all of it to w, once. An error is w's, or tells with its kind
	// why the rest does not come, after bytes that were written already.
	io.WriterTo
	// Close gives up what was not written and frees what is behind it. It may be
	// called again.
	Close() error
}

// Response is an answer as it travels: hops copy Body and never look into it.
// Immutable once returned.
type Response struct {
	Index       store.Index
	KnownLeader bool
	LastContact time.Duration
	Effective   store.Consistency
	NotFound    bool // a single object that is not there: 404 with headers, no body
	Filtered    bool // ACLs dropped entries, and the caller is told
	Hidden      bool // ACLs dropped entries; local, while the answer is made
	Conflict    bool // a transaction was not applied: 409, and Body says why
	Body        []byte
	// Route tells how an answer of another datacenter came about: which server gave
	// it, and whether it was hedged, sent again, shared or kept. "" for answers of
	// our own. It travels inside a datacenter only.
	Route string
	// Stream follows Body, for methods with Stream; nil if there is none. The
	// caller of Do closes it, and keeps the context of Do alive until then.
	Stream Stream

	// Kept says that it was kept from before, since its datacenter does not answer.
	// Local: it does not travel.
	Kept bool
}

// ErrWouldWait is the answer to a request with NoWait that cannot be answered from
// what is at hand: it would wait for a leader, a peer or a disk. The caller asks
// again without NoWait, from where it may wait. It never crosses the wire.
var ErrWouldWait = errors.New("the answer is not at hand")

// Doer runs a request: the dispatcher (anywhere it belongs), a client (at its
// peer), an endpoint (here). Errors are or wrap a *store.Error, whose kind and
// message cross the wire. It may be called concurrently; it returns when ctx is
// done at the latest, with a KindTimeout error if its deadline passed.
type Doer interface {
	Do(ctx context.Context, req *Request) (*Response, error)
}

// DoerFunc is a Doer made of a function.
type DoerFunc func(ctx context.Context, req *Request) (*Response, error)

// Do calls f.
func (f DoerFunc) Do(ctx context.Context, req *Request) (*Response, error) { return f(ctx, req) }
