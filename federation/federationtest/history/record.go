package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNotSent is what a Caller's error wraps when the request surely reached
// nobody: a refused connection, say. The operation is not recorded then.
var ErrNotSent = errors.New("not sent")

// Caller sends an HTTP request to an agent. The error says that there was no
// answer; any status is one.
type Caller func(ctx context.Context, method, path, body string) (code int, reply string, err error)

// Via is the agent an operation goes through.
type Via struct {
	Name   string
	Call   Caller
	Params []string // as in a query: "consistent", "dc=west"
}

// Recorder keeps operations as they end. The zero value is ready.
type Recorder struct {
	events atomic.Int64
	begun  sync.Once
	start  time.Time

	mu   sync.Mutex
	ops  []Op
	odd  []error
	lost int
}

// Ops are the recorded operations.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

// Err is what agents answered that no user should ever get, such as a 400.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.odd...)
}

// String counts the operations.
func (r *Recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var done [DeleteCAS + 1]int
	unknown, conflicts := 0, 0
	for i := range r.ops {
		op := &r.ops[i]
		done[op.Kind]++
		if !op.Done {
			unknown++
		} else if (op.Kind == CAS || op.Kind == DeleteCAS) && !op.OK {
			conflicts++
		}
	}
	return fmt.Sprintf("%d operations (%d reads, %d puts, %d cas, %d deletes, %d delete-cas; %d refused by their index, %d without an answer), %d reads failed",
		len(r.ops), done[Read], done[Put], done[CAS], done[Delete], done[DeleteCAS], conflicts, unknown, r.lost)
}

// Do carries out an operation and records it; it returns it with what came back.
// Of op, Client, Kind, Key and what is written or demanded are the caller's.
func (r *Recorder) Do(ctx context.Context, via Via, op Op) (Op, error) {
	r.begun.Do(func() { r.start = time.Now() })
	method, params := http.MethodPut, slices.Clone(via.Params)
	switch op.Kind {
	case Read:
		method = http.MethodGet
	case Delete:
		method = http.MethodDelete
	case DeleteCAS:
		method = http.MethodDelete
		params = append(params, fmt.Sprint("cas=", op.Index))
	case CAS:
		params = append(params, fmt.Sprint("cas=", op.Index))
	}
	if op.Kind != Read {
		params = slices.DeleteFunc(params, func(p string) bool {
			return p == "consistent" || p == "stale" || strings.HasPrefix(p, "wait=") || strings.HasPrefix(p, "index=")
		})
	}
	op.How = via.Name + "?" + strings.Join(params, "&")
	path := "/v1/kv/" + url.PathEscape(op.Key) + "?" + strings.Join(params, "&")
	body := ""
	if op.Kind == Put || op.Kind == CAS {
		body = op.Value
	}
	op.Call, op.At = r.events.Add(1), time.Since(r.start)
	code, reply, err := via.Call(ctx, method, path, body)
	op.Return, op.Took = r.events.Add(1), time.Since(r.start)-op.At
	if err == nil {
		err = op.answer(code, reply)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var odd *oddError
	if errors.As(err, &odd) {
		r.odd = append(r.odd, fmt.Errorf("%s %s through %s: %w", method, path, via.Name, err))
	}
	switch {
	case errors.Is(err, ErrNotSent):
		return op, err
	case err != nil && op.Kind == Read:
		r.lost++
		return op, err
	}
	op.Done = err == nil
	r.ops = append(r.ops, op)
	return op, err
}

// oddError is an answer that is neither a result nor the trouble of a cluster.
type oddError struct {
	code  int
	reply string
}

func (e *oddError) Error() string { return fmt.Sprintf("%d %q", e.code, e.reply) }

// answer takes the result out of a reply.
func (o *Op) answer(code int, reply string) error {
	switch {
	case code == http.StatusInternalServerError:
		return fmt.Errorf("500 %s", reply)
	case code == http.StatusNotFound && o.Kind == Read:
		o.Found = false
		return nil
	case code != http.StatusOK:
		return &oddError{code, reply}
	}
	switch o.Kind {
	case Read:
		var list []struct {
			Value       []byte
			ModifyIndex uint64
		}
		if err := json.Unmarshal([]byte(reply), &list); err != nil || len(list) != 1 {
			return &oddError{code, reply}
		}
		o.Found, o.Value, o.Index = true, string(list[0].Value), list[0].ModifyIndex
	case Put, Delete:
		if strings.TrimSpace(reply) != "true" {
			return &oddError{code, reply}
		}
	default:
		switch strings.TrimSpace(reply) {
		case "true":
			o.OK = true
		case "false":
			o.OK = false
		default:
			return &oddError{code, reply}
		}
	}
	return nil
}
