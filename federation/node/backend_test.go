package node

import (
	"errors"
	"fmt"
	"testing"

	"landbridge/store"
)

func TestJoinError(t *testing.T) {
	one := errors.New("failed to join 127.0.0.99:8301: dial tcp 127.0.0.99:8301: connect: connection refused")
	for want, err := range map[string]error{
		"1 error occurred:\n\t* Failed to join 127.0.0.99:8301: dial tcp 127.0.0.99:8301: connect: connection refused\n\n": fmt.Errorf("join: %w", errors.Join(one)),
		"2 errors occurred:\n\t* Failed to join 127.0.0.99:8301: dial tcp 127.0.0.99:8301: connect: connection refused\n\t* Failed to join 127.0.0.98:8301: no route\n\n": errors.Join(one,
			errors.New("failed to join 127.0.0.98:8301: no route")),
		"1 error occurred:\n\t* Failed to join host:8301: no such host\n\n": errors.New("no such host"),
	} {
		got := joinError("host:8301", err)
		if got.Error() != want || !errors.Is(got, err) || store.KindOf(got) != store.KindInternal {
			t.Errorf("got %q want %q", got, want)
		}
	}
}
