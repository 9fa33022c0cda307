//go:build unix

package procgroup

import (
	"os/exec"
	"syscall"
)

// Own gives a command a process group of its own, which is killed when the
// command's context ends. What left the group (setsid) is out of reach: bound the
// wait for it by Cmd.WaitDelay.
func Own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// ExitCode is what a shell shows for a command that ended.
func ExitCode(e *exec.ExitError) int {
	if w, ok := e.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return e.ExitCode()
}
