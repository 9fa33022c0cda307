package cli

import "syscall"

// childAttributes: SIGTERM when we are gone, also if by SIGKILL, since nobody
// holds the lock for the child then.
func childAttributes(group bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: group, Pdeathsig: syscall.SIGTERM}
}
