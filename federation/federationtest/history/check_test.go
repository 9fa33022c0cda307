package history

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func read(value string, index uint64) Op {
	return Op{Kind: Read, Found: true, Value: value, Index: index, Done: true}
}

var (
	nothing = Op{Kind: Read, Done: true}
	removed = Op{Kind: Delete, Done: true}
)

func put(value string) Op { return Op{Kind: Put, Value: value, Done: true} }

func cas(index uint64, value string, ok bool) Op {
	return Op{Kind: CAS, Value: value, Index: index, OK: ok, Done: true}
}

func deleteCAS(index uint64, ok bool) Op {
	return Op{Kind: DeleteCAS, Index: index, OK: ok, Done: true}
}

// lost is an operation without an answer.
func lost(op Op) Op {
	op.Done, op.OK = false, false
	return op
}

// span gives an operation its time.
func span(call, ret int64, op Op) Op {
	op.Key, op.Call, op.Return = "k", call, ret
	return op
}

// inTurn makes a history of operations that do not overlap.
func inTurn(ops ...Op) []Op {
	for i := range ops {
		ops[i] = span(int64(2*i), int64(2*i+1), ops[i])
	}
	return ops
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		ok   bool
		ops  []Op
	}{
		{"nothing at all", true, nil},
		{"life of a key", true, inTurn(nothing, cas(0, "a", true), read("a", 5), cas(0, "b", false), put("b"), read("b", 7), cas(5, "c", false),
			cas(7, "c", true), read("c", 9), deleteCAS(7, false), deleteCAS(9, true), nothing, deleteCAS(9, true), put("d"), read("d", 12), removed, nothing)},
		{"stale read", false, inTurn(put("a"), put("b"), read("a", 5))},
		{"read of what nobody wrote", false, inTurn(put("a"), read("b", 5))},
		{"lost write", false, inTurn(put("a"), nothing)},
		{"deleted key comes back", false, inTurn(put("a"), removed, read("a", 5))},
		{"either order of concurrent writes", true, []Op{span(0, 10, put("a")), span(1, 9, put("b")), span(11, 12, read("a", 5))}},
		{"but one", false, []Op{span(0, 10, put("a")), span(1, 9, put("b")), span(11, 12, read("a", 5)), span(13, 14, read("b", 6))}},
		{"two reads turn time back", false, []Op{span(0, 10, put("a")), span(1, 2, read("a", 5)), span(3, 4, nothing)}},
		{"both of two cas", false, []Op{span(0, 1, put("a")), span(2, 3, read("a", 5)), span(4, 10, cas(5, "b", true)), span(5, 9, cas(5, "c", true))}},
		{"one of two cas", true, []Op{span(0, 1, put("a")), span(2, 3, read("a", 5)), span(4, 10, cas(5, "b", true)), span(5, 9, cas(5, "c", false))}},
		{"cas over a newer value", false, inTurn(put("a"), read("a", 5), put("b"), cas(5, "c", true))},
		{"cas refused without a reason", false, inTurn(put("a"), read("a", 5), cas(5, "b", false))},
		{"cas that was refused and happened", false, inTurn(put("a"), read("a", 5), cas(5, "b", false), read("b", 6))},
		{"create of an existing key", false, inTurn(put("a"), cas(0, "b", true))},
		{"delete-cas with an old index", false, inTurn(put("a"), read("a", 5), put("b"), deleteCAS(5, true))},
		{"index goes back", false, inTurn(put("a"), read("a", 5), put("b"), read("b", 4))},
		{"index goes back over a delete", false, inTurn(put("a"), read("a", 5), removed, put("b"), read("b", 5))},
		{"one value, two indexes", false, inTurn(put("a"), read("a", 5), read("a", 6))},
		{"no answer: never happened", true, inTurn(put("a"), lost(put("b")), read("a", 5), read("a", 5))},
		{"no answer: happened late", true, inTurn(put("a"), lost(put("b")), read("a", 5), read("b", 6))},
		{"no answer: happened twice", false, inTurn(lost(put("b")), read("b", 5), put("c"), read("c", 6), read("b", 7))},
		{"no answer: not before its call", false, inTurn(put("a"), read("b", 5), lost(put("b")))},
		{"cas without answer happened", true, inTurn(put("a"), read("a", 5), lost(cas(5, "b", false)), read("b", 6))},
		{"cas without answer over a newer value", false, inTurn(put("a"), read("a", 5), put("c"), read("c", 6), lost(cas(5, "b", false)), read("b", 7))},
		{"cas refused by one without answer", true, inTurn(put("a"), read("a", 5), lost(put("x")), cas(5, "b", false), put("c"), read("c", 7))},
		{"late cas without answer, read by two", true, []Op{span(0, 1, put("a")), span(2, 3, read("a", 5)), span(4, 5, lost(cas(5, "b", false))), span(6, 20, read("b", 6)), span(7, 8, read("a", 5)), span(9, 10, read("b", 6))}},
		{"refused cas that happened, beside a write without answer", false, inTurn(put("a"), lost(put("x")), read("a", 5), cas(5, "b", false), read("b", 7))},
		{"read without answer", true, inTurn(put("a"), lost(read("", 0)), read("a", 5))},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Check(c.ops, 10*time.Second)
			var v *Violation
			if c.ok && err != nil || !c.ok && !errors.As(err, &v) {
				t.Errorf("got %v, want ok %t", err, c.ok)
			}
		})
	}
}

// A violation names the operation that does not fit, and draws a picture.
func TestViolationSaysWhat(t *testing.T) {
	err := Check(inTurn(put("a"), put("b"), read("b", 6), read("a", 5)), time.Second)
	var v *Violation
	if !errors.As(err, &v) || len(v.Fit) != 3 || len(v.Rest) != 1 || v.Rest[0].Value != "a" {
		t.Fatalf("got %v", err)
	}
	if text := err.Error(); !strings.Contains(text, `not   [6,7]`) || !strings.Contains(text, `read "a" at index 5`) {
		t.Errorf("the text is %q", text)
	}
	var page bytes.Buffer
	if err := v.Picture(&page); err != nil || page.Len() == 0 {
		t.Errorf("picture of %d bytes, %v", page.Len(), err)
	}
}

// world is a register that is linearizable by construction: each operation
// happens at one moment between its call and its return.
type world struct {
	now, index uint64
	found      bool
	value      string
	at         uint64
}

func (w *world) happen(op *Op) {
	set := func(found bool, value string) {
		w.index += 1 + w.now%3
		w.found, w.value, w.at = found, value, w.index
	}
	switch op.Kind {
	case Read:
		if op.Found = w.found; w.found {
			op.Value, op.Index = w.value, w.at
		}
	case Put:
		set(true, op.Value)
	case Delete:
		set(false, "")
	case CAS:
		if op.OK = op.Index == 0 && !w.found || op.Index != 0 && w.found && w.at == op.Index; op.OK {
			set(true, op.Value)
		}
	case DeleteCAS:
		match := w.found && w.at == op.Index
		if op.OK = match || !w.found; match {
			set(false, "")
		}
	}
}

// concurrent makes a history of several users of that register.
func concurrent(rng *rand.Rand, users, each int) []Op {
	type running struct {
		op       Op
		seen     Op
		left     int
		happened bool
	}
	var (
		w    world
		ops  []Op
		tick int64
		all  = make([]*running, users)
		busy = make([]bool, users)
	)
	for i := range all {
		all[i] = &running{left: each}
	}
	for {
		tick++
		w.now++
		open := slices.DeleteFunc(slices.Clone(all), func(r *running) bool { return r.left == 0 })
		if len(open) == 0 {
			return ops
		}
		r := open[rng.IntN(len(open))]
		id := slices.Index(all, r)
		switch {
		case !busy[id]:
			op := Op{Client: id, Key: "k", Kind: Kind(rng.IntN(int(DeleteCAS) + 1)), Value: fmt.Sprint(id, "-", r.left), Call: tick, Done: true}
			if op.Kind == DeleteCAS && r.seen.Index == 0 {
				op.Kind = Put
			}
			switch op.Kind {
			case CAS, DeleteCAS:
				op.Index = r.seen.Index
			case Read, Delete:
				op.Value = ""
			}
			busy[id], r.op, r.happened = true, op, false
		case !r.happened:
			w.happen(&r.op)
			r.happened = true
		default:
			r.op.Return = tick
			if r.op.Kind == Read {
				r.seen = r.op
			} else if rng.IntN(10) == 0 {
				r.op = lost(r.op)
			}
			ops = append(ops, r.op)
			busy[id] = false
			r.left--
		}
	}
}

// What happened in some order is always accepted; a read that is put back to the
// value before an acknowledged write never is.
func TestCheckAgainstTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		ops := concurrent(rng, rapid.IntRange(1, 5).Draw(t, "users"), rapid.IntRange(1, 25).Draw(t, "each"))
		if err := Check(ops, 10*time.Second); err != nil {
			t.Fatalf("a true history: %v", err)
		}
		end := int64(1 << 20)
		for i, op := range []Op{put("old"), read("old", 1<<30), put("new"), read("old", 1<<30)} {
			ops = append(ops, span(end+int64(2*i), end+int64(2*i+1), op))
		}
		var v *Violation
		if err := Check(ops, 10*time.Second); !errors.As(err, &v) {
			t.Fatalf("a stale read at the end: %v", err)
		}
	})
}
