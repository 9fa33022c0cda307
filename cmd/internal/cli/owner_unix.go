//go:build unix

package cli

import (
	"os"
	"syscall"
)

// ownerOf is the user who owns a file.
func ownerOf(path string) (uid int, ok bool) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
