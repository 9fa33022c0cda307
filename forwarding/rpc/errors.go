package rpc

import (
	"context"
	"errors"
	"fmt"

	"landbridge/store"
	"landbridge/store/wire"
)

// Fields of an error frame.
const (
	errKind    = 1
	errMessage = 2 // of the error that has the kind: errors.Is compares it
	errText    = 3 // the whole chain's words, if they differ
)

// maxErrorText bounds what a peer makes us keep of an error.
const maxErrorText = 4 << 10

var (
	errClientClosed = errors.New("client closed")
	errPeerSilent   = errors.New("no sign of life from the peer: three pings missed")
	errPeerStopping = errors.New("the peer is stopping")
	errRetired      = errors.New("there is a better way to the peer by now")
)

// appendError appends an error frame's payload.
func appendError(b []byte, err error) []byte {
	kind, message := store.KindInternal, err.Error()
	var e *store.Error
	switch {
	case errors.As(err, &e):
		kind, message = e.Kind, e.Message
	case errors.Is(err, context.DeadlineExceeded):
		kind = store.KindTimeout
	}
	b = wire.Uint(b, errKind, uint64(kind))
	b = wire.String(b, errMessage, message[:min(len(message), maxErrorText)])
	if text := err.Error(); text != message {
		b = wire.String(b, errText, text[:min(len(text), maxErrorText)])
	}
	return b
}

// decodeError reads an error frame's payload into an error for which errors.Is
// and store.KindOf answer as they do where it was made.
func decodeError(b []byte) error {
	e := &store.Error{}
	var text string
	d := wire.NewDecoder(b)
	for d.Next() {
		switch d.Field {
		case errKind:
			e.Kind = store.Kind(min(d.Uint(), 255)).Known()
		case errMessage:
			e.Message = clip(d.Bytes())
		case errText:
			text = clip(d.Bytes())
		}
	}
	if err := d.Err(); err != nil {
		return store.Errorf(store.KindInternal, "error answer: %w", err)
	}
	if text != "" && text != e.Message {
		return &store.Error{Kind: e.Kind, Message: text, Cause: e}
	}
	return e
}

// answered is an error that the peer gave for an answer.
type answered struct{ error }

func (a answered) Unwrap() error { return a.error }

// Answered says whether a client's error is the peer's own answer: the peer is
// there, whatever it could not reach itself.
func Answered(err error) bool {
	var a answered
	return errors.As(err, &a)
}

// Stopping says whether a call was not run because the server it was for is about to
// stop (it was not sent, or the server said so), or failed because its session was
// given up for a better one: the server is not to blame.
func Stopping(err error) bool {
	var a answered
	if !errors.As(err, &a) {
		return errors.Is(err, errPeerStopping) || errors.Is(err, errRetired)
	}
	var e *store.Error
	return errors.As(a.error, &e) && e.Kind == errStopping.Kind && e.Message == errStopping.Message
}

// ErrLost is in the chain of a client's error when the call had been handed to its
// connection, and that ended without an answer.
var ErrLost = errors.New("connection lost")

// lost is ErrLost and why, in the words of why.
type lost struct{ cause error }

func (l lost) Error() string        { return l.cause.Error() }
func (l lost) Unwrap() error        { return l.cause }
func (l lost) Is(target error) bool { return target == ErrLost }

func clip(b []byte) string { return string(b[:min(len(b), maxErrorText)]) }

// errNotSent says that a call never left this process.
func (c *Client) errNotSent(m *Method, cause error) error {
	return store.Errorf(store.KindUnreachable, "%s to %s was not sent: %w", m.Name, c.peer, cause)
}

// errLost says that the answer of a call that was handed to the connection will
// not come.
func (c *Client) errLost(m *Method, cause error) error {
	cause = lost{cause}
	if m.Repeatable {
		return store.Errorf(store.KindUnreachable, "%s to %s got no answer: %w", m.Name, c.peer, cause)
	}
	return store.Errorf(store.KindMaybeApplied, "%s to %s may have been applied, it got no answer: %w", m.Name, c.peer, cause)
}

// errEnded says that the caller's context ended first. A deadline is
// KindTimeout for every method; the text of one that must not be repeated says
// that its outcome is unknown once it was sent.
func (c *Client) errEnded(ctx context.Context, m *Method, sent bool) error {
	cause := ctx.Err()
	outcome := ""
	if sent && !m.Repeatable {
		outcome = ", it may have been applied"
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return store.Errorf(store.KindTimeout, "%s to %s got no answer in time%s: %w", m.Name, c.peer, outcome, cause)
	}
	return store.Errorf(store.KindInternal, "%s to %s was given up by its caller%s: %w", m.Name, c.peer, outcome, context.Cause(ctx))
}

func peerLabel(name, addr string) string {
	switch {
	case name == "" && addr == "":
		return "peer"
	case name == "":
		return addr
	case addr == "":
		return name
	}
	return fmt.Sprintf("%s (%s)", name, addr)
}
