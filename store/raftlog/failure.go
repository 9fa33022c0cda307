package raftlog

import (
	"fmt"
	"sync/atomic"
)

// failure remembers the first failed fsync. After it the kernel may have
// dropped pages it reported as written, so nothing more is accepted.
type failure struct {
	err   atomic.Pointer[error]
	fatal func(error)
	m     *metrics
}

func newFailure(fatal func(error), m *metrics) *failure {
	return &failure{fatal: fatal, m: m}
}

// set reports a failed fsync of what; only the first one reaches Fatal.
func (f *failure) set(what string, err error) error {
	f.m.syncErrors.Inc()
	err = fmt.Errorf("raft log: fsync of %s: %w; what was written last may be lost, so this server must stop", what, err)
	if f.err.CompareAndSwap(nil, &err) {
		f.fatal(err)
	}
	return err
}

// get returns the error of the failed fsync, if any.
func (f *failure) get() error {
	if p := f.err.Load(); p != nil {
		return *p
	}
	return nil
}
