//go:build linux || darwin || freebsd

package endpoint

import "syscall"

// freeSpace returns how many bytes a file in dir may take.
func freeSpace(dir string) (uint64, bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return uint64(st.Bavail) * uint64(st.Bsize), true
}
