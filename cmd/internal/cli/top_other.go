//go:build !linux

package cli

import (
	"errors"
	"os"
)

// Elsewhere a terminal has the usual size, and is left as it is: Ctrl-C ends.
var resizeSignals []os.Signal

func terminalSize(*os.File) (width, height int) { return 80, 24 }

func keysAtOnce(*os.File) (restore func(), err error) { return nil, errors.ErrUnsupported }
