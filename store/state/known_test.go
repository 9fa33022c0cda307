package state

import (
	"testing"

	"landbridge/store"
)

// TestKindsHaveAVersion: what a leader proposes must be asked of other servers first
// (store.CommandKind.Since), so a kind that is known without a version is a mistake.
func TestKindsHaveAVersion(t *testing.T) {
	known := 0
	for k := range store.CommandKind(1000) {
		if Known(k) != (k.Since() <= store.CommandVersion) {
			t.Errorf("kind %d: known %v, since version %d of %d", k, Known(k), k.Since(), store.CommandVersion)
		}
		if Known(k) {
			known++
		}
	}
	if known < 12 {
		t.Errorf("%d kinds are known, want at least 12", known)
	}
}
