//go:build !linux

package raftlog

import "syscall"

func datasync(c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = syscall.Fsync(int(fd)) })
	if cerr != nil {
		return cerr
	}
	return err
}
