package node

import (
	"context"
	"testing"
	"testing/synctest"

	"landbridge/store"
)

// Who asks a datacenter without leader too often is told of the leader, not of that.
func TestEnrollSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), joinTimeout)
		defer cancel()
		asked := 0
		join := func() error {
			if asked++; asked == 3 {
				return store.ErrNoLeader
			}
			return store.Errorf(store.KindRateLimited, "too many attempts")
		}
		if err := enroll(ctx, join); store.KindOf(err) != store.KindNoLeader || asked < 4 {
			t.Errorf("after %d attempts: %v, want that there is no leader", asked, err)
		}
		if ctx.Err() == nil {
			t.Error("gave up before its time")
		}
		want := store.Errorf(store.KindInvalid, "no")
		if err := enroll(t.Context(), func() error { return want }); err != want {
			t.Errorf("got %v, want %v at once", err, want)
		}
	})
}
