//go:build !unix

package procgroup

import "os/exec"

// Own does nothing: there are no process groups here, the command alone is
// killed.
func Own(*exec.Cmd) {}

// ExitCode is the code that a command ended with.
func ExitCode(e *exec.ExitError) int { return e.ExitCode() }
