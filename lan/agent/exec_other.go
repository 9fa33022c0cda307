//go:build !unix

package agent

import "os/exec"

// inGroup does nothing: there are no process groups here, the command alone is
// killed.
func inGroup(*exec.Cmd) {}

func exitCode(e *exec.ExitError) int { return e.ExitCode() }
