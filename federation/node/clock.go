package node

import (
	"context"
	"time"
)

// The machine's clock is looked at so often, and a step of more than clockStep is
// reported: sessions and locks are kept by the monotonic clock and do not notice, but
// certificates and those who read time stamps do.
const (
	clockEvery = 10 * time.Second
	clockStep  = time.Second
)

// watchClock reports jumps of the machine's clock, which wall reads, until ctx ends.
func (n *Node) watchClock(ctx context.Context, wall func() time.Time) error {
	t := time.NewTicker(clockEvery)
	defer t.Stop()
	lastWall, last := wall(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		nowWall, now := wall(), time.Now()
		if by := nowWall.Sub(lastWall) - now.Sub(last); by.Abs() > clockStep {
			n.machine.clockJumps.Inc()
			n.log.Warn("the machine's clock jumped", "by", by.Round(time.Millisecond))
		}
		lastWall, last = nowWall, now
	}
}

// wallClock reads the machine's clock, without the monotonic one.
func wallClock() time.Time { return time.Now().Round(0) }
