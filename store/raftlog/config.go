package raftlog

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultSegmentSize is how much of the log one file holds. A segment is
// allocated as a whole when it is begun, so this is what an idle server takes
// on disk; the log shrinks by whole segments.
const DefaultSegmentSize = 16 << 20

// Options of Open. Fatal is required; the rest has working zero values.
type Options struct {
	// RaftID is this server's Raft id. It is kept in the marker.
	RaftID string

	// SegmentSize in bytes; 0 means DefaultSegmentSize.
	SegmentSize int

	// Fatal is called at most once, with the error of a failed fsync. It must
	// end the process (or, in tests, give up the Stores); it may return.
	Fatal func(error)

	// EvenOverruled opens what ErrOverruled would refuse: for a recovery of it.
	EvenOverruled bool

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o *Options) validate() error {
	var errs []error
	if o.Fatal == nil {
		errs = append(errs, errors.New("Fatal is required"))
	}
	if o.SegmentSize < 0 || o.SegmentSize > 1<<30 {
		errs = append(errs, errors.New("SegmentSize must be between 0 and 1 GiB"))
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	return errors.Join(errs...)
}
