//go:build !linux

package dnsapi

import "syscall"

// Elsewhere ports are not shared in a way that spreads questions, and an answer
// from a socket bound to all addresses leaves from the one that routing chooses.
const sharedPorts = false

func prepareSocket(syscall.RawConn, bool, bool, bool) error { return nil }

func fromAsked([]byte) []byte { return nil }
