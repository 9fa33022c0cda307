package dnsapi

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// sharedPorts is whether the system spreads the datagrams of a port over several
// sockets.
const sharedPorts = true

// prepareSocket sets what has to be set before a socket is bound.
func prepareSocket(c syscall.RawConn, shared, wild, six bool) error {
	var err error
	set := func(fd uintptr, level, option int) {
		if err == nil {
			err = unix.SetsockoptInt(int(fd), level, option, 1)
		}
	}
	ctl := c.Control(func(fd uintptr) {
		if shared {
			set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
		}
		switch {
		case wild && six:
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO)
		case wild:
			set(fd, unix.IPPROTO_IP, unix.IP_PKTINFO)
		}
	})
	if ctl != nil {
		return ctl
	}
	return err
}

// fromAsked turns the control message that says which address was asked into the
// one that sends from there: it is the same, but for the interface, which routing
// shall choose. What is no such message is left out.
func fromAsked(oob []byte) []byte {
	const head = unix.SizeofPtr + 8 // cmsghdr: length, level, type
	if len(oob) < head {
		return nil
	}
	level := binary.NativeEndian.Uint32(oob[unix.SizeofPtr:])
	kind := binary.NativeEndian.Uint32(oob[unix.SizeofPtr+4:])
	data := oob[head:]
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		clear(data[:4])
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		clear(data[16:20])
	default:
		return nil
	}
	return oob
}
