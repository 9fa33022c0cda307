package check

import "landbridge/store"

// Thresholds turn the results of one check into its status. Success and warning
// end a series of failures, and the other way round; a status changes only after
// the number of results in a row that it needs, and until then both status and
// output stay as they were.
type Thresholds struct {
	passing, warning, critical int
	successes, failures        int  // in a row
	failed                     bool // a failure has been seen: passing needs its number
}

// NewThresholds takes the definition's numbers; 0 is at once, and
// failuresBeforeWarning of 0 means that a failure is never just a warning.
func NewThresholds(successBeforePassing, failuresBeforeWarning, failuresBeforeCritical int) *Thresholds {
	t := &Thresholds{
		passing:  max(successBeforePassing, 1),
		warning:  failuresBeforeWarning,
		critical: max(failuresBeforeCritical, 1),
	}
	if t.warning <= 0 {
		t.warning = t.critical
	}
	return t
}

// Take counts a result. It returns the status to be set, or "" if the check stays
// as it is.
func (t *Thresholds) Take(result string) string {
	if result == store.Critical {
		t.failures++
		t.successes = 0
		t.failed = true
		switch {
		case t.failures >= t.critical:
			return store.Critical
		case t.failures >= t.warning:
			return store.Warning
		}
		return ""
	}
	t.successes++
	t.failures = 0
	if t.failed && t.successes < t.passing {
		return ""
	}
	return result
}
