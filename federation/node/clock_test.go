package node

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestClockJumps sets the clock forward and back, and by less than counts.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := &Node{log: slog.New(slog.DiscardHandler), machine: newMachineMetrics(prometheus.NewRegistry(), "")}
		var off atomic.Int64
		done := make(chan error)
		go func() {
			done <- n.watchClock(ctx, func() time.Time { return wallClock().Add(time.Duration(off.Load())) })
		}()
		for _, step := range []struct {
			off  time.Duration
			want float64
		}{{0, 0}, {time.Hour, 1}, {time.Hour, 1}, {time.Hour + 900*time.Millisecond, 1}, {-time.Minute, 2}} {
			synctest.Wait()
			off.Store(int64(step.off))
			time.Sleep(clockEvery)
			synctest.Wait()
			if got := testutil.ToFloat64(n.machine.clockJumps); got != step.want {
				t.Errorf("clock off by %s: %v jumps, want %v", step.off, got, step.want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
