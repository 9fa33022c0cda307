package history

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// register is what a key looks like between two operations.
type register struct {
	found bool
	value string
	index uint64 // of the value; 0 until somebody has read it
	floor uint64 // every later index is above this one
}

// change is the register after a write of unknown index.
func (r register) change(found bool, value string) register {
	return register{found: found, value: value, floor: max(r.floor, r.index)}
}

// at says whether the key is at an index. Users know an index from a read, so a
// value whose index nobody has read yet is not the one they mean.
func (r register) at(index uint64) bool { return r.found && r.index == index && index != 0 }

// step applies an operation and says whether it could have gone like that.
func (r register) step(op *Op) (bool, register) {
	switch op.Kind {
	case Read:
		switch {
		case !op.Found || !r.found:
			return op.Found == r.found, r
		case op.Value != r.value || op.Index == 0:
			return false, r
		case r.index == 0:
			r.index = op.Index
			return op.Index > r.floor, r
		}
		return op.Index == r.index, r
	case Put:
		return true, r.change(true, op.Value)
	case Delete:
		return true, r.change(false, "")
	case CAS:
		match := r.at(op.Index)
		if op.Index == 0 {
			match = !r.found
		}
		next := r
		if match {
			next = r.change(true, op.Value)
		}
		return !op.Done || op.OK == match, next
	case DeleteCAS:
		match := r.at(op.Index)
		next := r
		if match {
			next = r.change(false, "")
		}
		return !op.Done || op.OK == (match || !r.found), next
	}
	return false, r
}

var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		return state.(register).step(input.(*Op))
	},
	DescribeOperation: func(input, _ any) string { return input.(*Op).String() },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
}

// ErrUndecided is returned by Check when the search took too long.
var ErrUndecided = errors.New("no answer within the time limit")

// Violation is a key whose operations no order explains.
type Violation struct {
	Key string
	// Fit are the operations of the longest order that was found, Rest those that
	// could not follow it, oldest first.
	Fit, Rest []Op

	info porcupine.LinearizationInfo
}

func (v *Violation) Error() string {
	const shown = 6
	var b strings.Builder
	fmt.Fprintf(&b, "key %s: the history is not linearizable: %d operations fit, of %d more none can follow", v.Key, len(v.Fit), len(v.Rest))
	if n := len(v.Fit); n > shown {
		fmt.Fprintf(&b, "\n  ... %d before", n-shown)
	}
	for _, op := range v.Fit[max(0, len(v.Fit)-shown):] {
		b.WriteString("\n  fits  " + op.String())
	}
	for _, op := range v.Rest[:min(shown, len(v.Rest))] {
		b.WriteString("\n  not   " + op.String())
	}
	return b.String()
}

// Picture writes a page for a browser that shows the history of the key.
func (v *Violation) Picture(w io.Writer) error { return porcupine.Visualize(model, v.info, w) }

// Check returns a Violation if no order of the operations explains what the users
// saw, and ErrUndecided if the search did not end within the limit for one key.
func Check(ops []Op, limit time.Duration) error {
	byKey := map[string][]Op{}
	for _, op := range ops {
		byKey[op.Key] = append(byKey[op.Key], op)
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		settled := settle(byKey[key])
		list := make([]porcupine.Operation, len(settled))
		for i := range settled {
			op := &settled[i]
			list[i] = porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Return: op.Return}
		}
		switch porcupine.CheckOperationsTimeout(model, list, limit) {
		case porcupine.Illegal:
			errs = append(errs, explain(key, list, limit))
		case porcupine.Unknown:
			errs = append(errs, fmt.Errorf("key %s, %d operations: %w", key, len(list), ErrUndecided))
		}
	}
	return errors.Join(errs...)
}

// explain finds the longest order of operations that no order of all explains.
func explain(key string, ops []porcupine.Operation, limit time.Duration) error {
	_, info := porcupine.CheckOperationsVerbose(model, ops, limit)
	v := &Violation{Key: key, info: info}
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(v.Fit) {
				v.Fit = v.Fit[:0]
				for _, one := range order {
					v.Fit = append(v.Fit, *one.Input.(*Op))
				}
			}
		}
	}
	in := map[int64]bool{}
	for _, op := range v.Fit {
		in[op.Call] = true
	}
	for _, one := range ops {
		if op := one.Input.(*Op); !in[op.Call] {
			v.Rest = append(v.Rest, *op)
		}
	}
	slices.SortFunc(v.Rest, func(a, b Op) int { return int(a.Call - b.Call) })
	return v
}
