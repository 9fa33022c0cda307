package check

import (
	"context"
	"time"

	"landbridge/store"
)

// Result is what one run found: a status of package store and the text for users.
type Result struct {
	Status string
	Output string
}

// Probe is a check that can be run.
type Probe interface {
	// Run probes once and ends soon after ctx does.
	Run(ctx context.Context) Result
}

// Once runs a probe, at most for the time-out, and tells whether that passed.
func Once(ctx context.Context, p Probe, timeout time.Duration) (r Result, timedOut bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r = p.Run(ctx)
	return r, r.Status == store.Critical && ctx.Err() == context.DeadlineExceeded
}

// maxFailure bounds the text of an error: some carry what a peer sent.
const maxFailure = 1024

func failure(err error) Result { return critical(err.Error()) }

func critical(text string) Result {
	if len(text) > maxFailure {
		text = text[:maxFailure]
	}
	return Result{store.Critical, text}
}
