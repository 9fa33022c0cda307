package check

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"landbridge/store"
)

// systemd is a D-Bus with systemd's manager on it, as far as a check needs.
func systemd(t *testing.T, units map[string]unitState) (bus string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if err := serveBus(conn, units); err != nil {
				t.Errorf("the bus: %v", err)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return "unix:path=" + path
}

// serveBus talks to one client until it closes.
func serveBus(conn net.Conn, units map[string]unitState) error {
	r := bufio.NewReader(conn)
	if b, err := r.ReadByte(); err != nil || b != 0 {
		return fmt.Errorf("no null byte at the beginning: %d %v", b, err)
	}
	for begun := false; !begun; {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		switch word := strings.Fields(line); word[0] {
		case "AUTH":
			if len(word) == 1 {
				fmt.Fprint(conn, "REJECTED EXTERNAL\r\n")
			} else {
				fmt.Fprint(conn, "OK 0123456789abcdef0123456789abcdef\r\n")
			}
		case "NEGOTIATE_UNIX_FD":
			fmt.Fprint(conn, "ERROR\r\n")
		case "BEGIN":
			begun = true
		default:
			return fmt.Errorf("said %q", line)
		}
	}
	for serial := uint32(1); ; serial++ {
		call, err := dbus.DecodeMessage(r)
		if err != nil {
			return nil // it left
		}
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
		}}
		switch member := call.Headers[dbus.FieldMember].Value().(string); member {
		case "Hello":
			reply.Body = []any{":1.42"}
		case "ListUnitsByNames":
			type row struct {
				Name, Description, Load, Active, Sub, Following string
				Path                                            dbus.ObjectPath
				JobID                                           uint32
				JobType                                         string
				JobPath                                         dbus.ObjectPath
			}
			rows := []row{}
			for _, name := range call.Body[0].([]string) {
				s, ok := units[name]
				if !ok {
					s = unitState{"not-found", "inactive", "dead"}
				}
				if s.load == "twice" {
					rows = append(rows, row{Path: "/", JobPath: "/"})
				}
				rows = append(rows, row{Name: name, Load: s.load, Active: s.active, Sub: s.sub, Path: "/u", JobPath: "/"})
			}
			reply.Body = []any{rows}
			if name := call.Body[0].([]string)[0]; name == "refused.service" {
				reply.Type = dbus.TypeError
				reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.DBus.Error.AccessDenied")
				reply.Body = []any{"Permission denied"}
			}
		default:
			return fmt.Errorf("called %q", member)
		}
		reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
		if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
			return err
		}
	}
}

func TestOSService(t *testing.T) {
	bus := systemd(t, map[string]unitState{
		"nginx.service":   {"loaded", "active", "running"},
		"reload.service":  {"loaded", "reloading", "reload"},
		"slow.service":    {"loaded", "activating", "start-pre"},
		"bad.service":     {"loaded", "failed", "failed"},
		"off.service":     {"loaded", "inactive", "dead"},
		"ending.service":  {"loaded", "deactivating", "stop-sigterm"},
		"backup.timer":    {"loaded", "active", "waiting"},
		"my.app.service":  {"loaded", "active", "exited"},
		"strange.service": {"twice", "", ""},
	})
	for _, c := range []struct{ unit, status, output string }{
		{"nginx", store.Passing, "Service nginx.service is active (running)"},
		{"nginx.service", store.Passing, "Service nginx.service is active (running)"},
		{"reload", store.Passing, "Service reload.service is reloading (reload)"},
		{"slow", store.Warning, "Service slow.service is activating (start-pre)"},
		{"bad", store.Critical, "Service bad.service is failed (failed)"},
		{"off", store.Critical, "Service off.service is inactive (dead)"},
		{"ending", store.Critical, "Service ending.service is deactivating (stop-sigterm)"},
		{"backup.timer", store.Passing, "Service backup.timer is active (waiting)"},
		{"my.app", store.Passing, "Service my.app.service is active (exited)"},
		{"none", store.Critical, "Service none.service does not exist"},
		{"strange", store.Critical, "systemd: 2 answers about strange.service"},
		{"refused", store.Critical, "systemd: Permission denied"},
	} {
		t.Run(c.unit, func(t *testing.T) { wants(t, &OSService{Unit: c.unit, Bus: bus}, c.status, c.output) })
	}
	wants(t, &OSService{Unit: "nginx", Bus: "unix:path=/nowhere/bus"}, store.Critical,
		"systemd: no D-Bus system bus: dial unix /nowhere/bus: connect: no such file or directory")
	wants(t, &OSService{Unit: "nginx", Bus: "tcp:host=localhost"}, store.Critical,
		`systemd: the D-Bus address "tcp:host=localhost" is not of the form unix:path=/...`)
}

func TestBusAddresses(t *testing.T) {
	for address, want := range map[string]string{
		DefaultBus:                             "/run/dbus/system_bus_socket",
		"unix:guid=abc,path=/x":                "/x",
		"tcp:host=h;unix:path=/y":              "/y",
		"unix:abstract=/tmp/dbus-1":            "@/tmp/dbus-1",
		"unix:tmpdir=/tmp":                     "",
		"":                                     "",
		"autolaunch:;unix:path=/z;unix:path=/": "/z",
	} {
		if got, ok := busSocket(address); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t, want %q", address, got, ok, want)
		}
	}
}
