package history

import "math"

// settle prepares the operations on one key for the search, whose time doubles
// with each write that may happen at any time. It decides what the reads decide:
//
//   - A write without an answer whose value somebody read has happened, by the end
//     of the first such read.
//   - One whose value nobody read is left out. If it happened, another write came
//     next, and only operations that their index refused could tell: those that
//     ended after its call are left out as well. (They have no effect. A refused
//     write that happened all the same still shows, by its value.)
//
// Values are written once each. What is left without an answer are deletes.
func settle(ops []Op) []Op {
	firstRead := map[string]int64{}
	for i := range ops {
		op := &ops[i]
		if op.Kind != Read || !op.Done || !op.Found {
			continue
		}
		if at, ok := firstRead[op.Value]; !ok || op.Return < at {
			firstRead[op.Value] = op.Return
		}
	}
	var out []Op
	unseen := int64(math.MaxInt64) // call of the first write that is left out
	for _, op := range ops {
		if !op.Done {
			at, seen := firstRead[op.Value]
			switch {
			case op.Kind == Read:
				continue
			case op.Kind == Delete || op.Kind == DeleteCAS:
				op.Return = math.MaxInt64
			case seen:
				op.Return, op.OK, op.Done = max(at, op.Call), true, true
			default:
				unseen = min(unseen, op.Call)
				continue
			}
		}
		out = append(out, op)
	}
	if unseen == math.MaxInt64 {
		return out
	}
	kept := out[:0]
	for _, op := range out {
		refused := op.Done && !op.OK && (op.Kind == CAS || op.Kind == DeleteCAS)
		if !refused || op.Return < unseen {
			kept = append(kept, op)
		}
	}
	return kept
}
