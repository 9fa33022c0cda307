package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPulse freezes one loop of two, and lets it go on.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := &pulse{born: time.Now(), limit: 10 * time.Second}
		stuck := make(chan struct{})
		p.add("raft", func(ctx context.Context) error { return ask(ctx, stuck) })
		p.add("agent", func(context.Context) error { return nil })
		done := make(chan error)
		go func() { done <- p.run(ctx) }()
		after := func(d time.Duration, want string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := p.frozen(); got != want {
				t.Errorf("at %s: frozen: %q, want %q", time.Since(p.born), got, want)
			}
		}
		after(5*time.Second, "")
		after(5*time.Second+time.Millisecond, "raft")
		<-stuck
		after(0, "")
		after(5*time.Second, "")
		after(6*time.Second, "raft")
		// Nobody looked for longer than the limit: the process itself stood still.
		after(11*time.Second, "")
		after(5*time.Second, "")
		after(6*time.Second, "raft")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
