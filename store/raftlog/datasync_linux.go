package raftlog

import "syscall"

// datasync makes a file's data durable, and of its metadata what is needed to
// read it (fdatasync(2)).
func datasync(c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		for {
			if err = syscall.Fdatasync(int(fd)); err != syscall.EINTR {
				return
			}
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}
