package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
)

// listen binds an address or a socket file, with the file's owner and mode.
func listen(a ListenAddr, u UnixSocket) (net.Listener, error) {
	if a.Unix == "" {
		return net.Listen("tcp", a.AddrPort.String())
	}
	// A file left by a process that was killed; a live one answers a dial.
	if c, err := net.Dial("unix", a.Unix); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another process listens there", a)
	}
	if err := os.Remove(a.Unix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.Listen("unix", a.Unix)
	if err != nil {
		return nil, err
	}
	if err := u.apply(a.Unix); err != nil {
		ln.Close()
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	return ln, nil
}

// apply sets owner, group and mode as unix_sockets says.
func (u UnixSocket) apply(file string) error {
	uid, gid := -1, -1
	if u.User != "" {
		id := u.User
		if found, err := user.Lookup(u.User); err == nil {
			id = found.Uid
		}
		n, err := strconv.Atoi(id)
		if err != nil {
			return fmt.Errorf("unix_sockets.user %q: no such user", u.User)
		}
		uid = n
	}
	if u.Group != "" {
		id := u.Group
		if found, err := user.LookupGroup(u.Group); err == nil {
			id = found.Gid
		}
		n, err := strconv.Atoi(id)
		if err != nil {
			return fmt.Errorf("unix_sockets.group %q: no such group", u.Group)
		}
		gid = n
	}
	if uid != -1 || gid != -1 {
		if err := os.Chown(file, uid, gid); err != nil {
			return err
		}
	}
	if u.Mode == "" {
		return nil
	}
	mode, err := strconv.ParseUint(u.Mode, 8, 12)
	if err != nil {
		return fmt.Errorf("unix_sockets.mode %q: not an octal number", u.Mode)
	}
	return os.Chmod(file, fs.FileMode(mode))
}
