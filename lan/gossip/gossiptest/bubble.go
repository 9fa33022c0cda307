package gossiptest

import (
	"testing"
	"testing/synctest"
	"time"
)

// Bubble runs f as synctest.Test does, and lets a minute of virtual time pass
// after it: memberlist's probes and serf's timers end some seconds after
// Shutdown, and a bubble's clock stands still once its main function returned.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(time.Minute)
		f(t)
	})
}
