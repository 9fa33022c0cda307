package rpc

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"landbridge/store"
	"landbridge/store/wire"
)

// Fields of a request's envelope. Numbers are never reused.
const (
	reqMethod         = 1
	reqDatacenter     = 2
	reqToken          = 3
	reqConsistency    = 4
	reqMaxStale       = 5
	reqMinIndex       = 6
	reqWait           = 7
	reqFilter         = 8
	reqRepresentation = 9
	reqTranslateWAN   = 10
	reqSourceDC       = 11
	reqHops           = 12
	reqRemaining      = 13 // milliseconds, rounded up; absent: no deadline
	reqAcceptZstd     = 14 // the body of the answer may be compressed
	reqQuery          = 15
	reqBody           = 16
	reqBodyZstd       = 17 // instead of reqBody
	reqAcceptApart    = 18 // a large answer may be laid apart
)

// Fields of an answer's envelope.
const (
	respIndex       = 1
	respKnownLeader = 2
	respLastContact = 3
	respEffective   = 4
	respNotFound    = 5
	respFiltered    = 6
	respBody        = 7
	respBodyZstd    = 8
	respConflict    = 9
	respStream      = 10 // a stream of bytes follows this frame
	respRoute       = 11
)

// appendRequest appends req without its local fields. remaining 0 means that
// there is no deadline.
func appendRequest(b []byte, req *Request, remaining time.Duration, z *compressor, apart bool) []byte {
	b = wire.Uint(b, reqMethod, uint64(req.Method))
	b = wire.String(b, reqDatacenter, req.Datacenter)
	b = wire.String(b, reqToken, req.Token)
	b = wire.Uint(b, reqConsistency, uint64(req.Consistency))
	b = wire.Int(b, reqMaxStale, int64(req.MaxStale))
	b = wire.Uint(b, reqMinIndex, uint64(req.MinIndex))
	b = wire.Int(b, reqWait, int64(req.Wait))
	b = wire.String(b, reqFilter, req.Filter)
	b = wire.Uint(b, reqRepresentation, uint64(req.Representation))
	b = wire.Bool(b, reqTranslateWAN, req.TranslateWAN)
	b = wire.String(b, reqSourceDC, req.SourceDC)
	b = wire.Uint(b, reqHops, uint64(req.Hops))
	if remaining > 0 {
		b = wire.Uint(b, reqRemaining, uint64((remaining+time.Millisecond-1)/time.Millisecond))
	}
	b = wire.Bool(b, reqAcceptZstd, z != nil)
	b = wire.Bool(b, reqAcceptApart, apart)
	if !emptyQuery(&req.Query) {
		b = wire.Message(b, reqQuery, req.Query.AppendWire)
	}
	if packed, ok := z.pack(req.Body); ok {
		return wire.Bytes(b, reqBodyZstd, packed)
	}
	return wire.Bytes(b, reqBody, req.Body)
}

func emptyQuery(q *store.Query) bool {
	return q.Name == "" && len(q.Tags) == 0 && len(q.NodeMeta) == 0 && !q.PassingOnly && q.Separator == "" && q.Near == ""
}

// wireRequest is a request as it arrived.
type wireRequest struct {
	Request
	remaining   time.Duration // 0: no deadline
	acceptZstd  bool
	acceptApart bool
	packed      []byte // body, still compressed
}

// decode reads an envelope. Body and packed are parts of b, which must not
// change afterwards.
func (r *wireRequest) decode(b []byte) error {
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case reqMethod:
			if n := d.Uint(); n <= uint64(^MethodID(0)) {
				r.Method = MethodID(n)
			} else {
				return store.Errorf(store.KindInvalid, "method number %d does not exist", n)
			}
		case reqDatacenter:
			r.Datacenter = d.String()
		case reqToken:
			r.Token = d.String()
		case reqConsistency:
			n := d.Uint()
			if n > uint64(store.Stale) {
				return store.Errorf(store.KindInvalid, "consistency mode %d is not known", n)
			}
			r.Consistency = store.Consistency(n)
		case reqMaxStale:
			r.MaxStale = time.Duration(d.Int())
		case reqMinIndex:
			r.MinIndex = store.Index(d.Uint())
		case reqWait:
			r.Wait = time.Duration(d.Int())
		case reqFilter:
			r.Filter = d.String()
		case reqRepresentation:
			n := d.Uint()
			if n > uint64(Records) {
				return store.Errorf(store.KindInvalid, "representation %d is not known", n)
			}
			r.Representation = Representation(n)
		case reqTranslateWAN:
			r.TranslateWAN = d.Bool()
		case reqSourceDC:
			r.SourceDC = d.String()
		case reqHops:
			r.Hops = uint8(min(d.Uint(), 255))
		case reqRemaining:
			const most = uint64(1<<63-1) / uint64(time.Millisecond)
			r.remaining = time.Duration(min(d.Uint(), most)) * time.Millisecond
		case reqAcceptZstd:
			r.acceptZstd = d.Bool()
		case reqAcceptApart:
			r.acceptApart = d.Bool()
		case reqQuery:
			if err := r.Query.DecodeWire(d.Bytes()); err != nil {
				return store.Errorf(store.KindInvalid, "request envelope: query: %w", err)
			}
		case reqBody:
			r.Body = d.Bytes()
		case reqBodyZstd:
			r.packed = d.Bytes()
		}
	}
	if err := d.Err(); err != nil {
		return store.Errorf(store.KindInvalid, "request envelope: %w", err)
	}
	return nil
}

// appendResponseHead appends an answer up to the bytes of its body, which the
// caller sends right behind it: body, or what compression made of it.
func appendResponseHead(b []byte, resp *Response, z *compressor) (head, body []byte) {
	b = wire.Uint(b, respIndex, uint64(resp.Index))
	b = wire.Bool(b, respKnownLeader, resp.KnownLeader)
	b = wire.Int(b, respLastContact, int64(resp.LastContact))
	b = wire.Uint(b, respEffective, uint64(resp.Effective))
	b = wire.Bool(b, respNotFound, resp.NotFound)
	b = wire.Bool(b, respFiltered, resp.Filtered)
	b = wire.Bool(b, respConflict, resp.Conflict)
	b = wire.Bool(b, respStream, resp.Stream != nil)
	b = wire.String(b, respRoute, resp.Route)
	body, field := resp.Body, respBody
	if packed, ok := z.pack(body); ok {
		body, field = packed, respBodyZstd
	}
	if len(body) == 0 {
		return b, nil
	}
	b = protowire.AppendTag(b, protowire.Number(field), protowire.BytesType)
	return protowire.AppendVarint(b, uint64(len(body))), body
}

// decodeResponse reads an answer. Its body is part of b, unless it was
// compressed. An answer that announces a stream has one that cannot be read: only
// the reader of its frames has the rest.
func decodeResponse(b []byte, z *compressor) (*Response, error) {
	r := &Response{}
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case respIndex:
			r.Index = store.Index(d.Uint())
		case respKnownLeader:
			r.KnownLeader = d.Bool()
		case respLastContact:
			r.LastContact = time.Duration(d.Int())
		case respEffective:
			r.Effective = store.Consistency(min(d.Uint(), 255))
		case respNotFound:
			r.NotFound = d.Bool()
		case respFiltered:
			r.Filtered = d.Bool()
		case respConflict:
			r.Conflict = d.Bool()
		case respRoute:
			r.Route = d.String()
		case respStream:
			if d.Bool() {
				r.Stream = announced{}
			}
		case respBody:
			r.Body = d.Bytes()
		case respBodyZstd:
			body, err := z.unpack(d.Bytes(), nil)
			if err != nil {
				return nil, err
			}
			r.Body = body
		}
	}
	if err := d.Err(); err != nil {
		return nil, store.Errorf(store.KindInternal, "answer envelope: %w", err)
	}
	return r, nil
}
