package node

import (
	"testing"
	"time"
)

// All agents together stay under coordinateRate a second.
func TestCoordinatePause(t *testing.T) {
	for _, tt := range []struct {
		members int
		want    time.Duration
	}{{0, 15 * time.Second}, {1, 15 * time.Second}, {960, 15 * time.Second}, {1920, 30 * time.Second}, {64000, 1000 * time.Second}} {
		if got := coordinatePause(tt.members); got != tt.want {
			t.Errorf("%d members: %v, want %v", tt.members, got, tt.want)
		}
	}
}
