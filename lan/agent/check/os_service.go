package check

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"landbridge/store"
)

// DefaultBus is the D-Bus system bus.
const DefaultBus = "unix:path=/run/dbus/system_bus_socket"

// OSService asks systemd over D-Bus for a unit of this machine: one that is active
// passes, one that is on its way there is a warning, all else is critical.
type OSService struct {
	Unit string // a name without a type is a service's
	Bus  string // the bus's address, as DBUS_SYSTEM_BUS_ADDRESS has it; "" is DefaultBus
	Dial Dial
}

// Run asks once, on a connection of its own: reading any unit's state needs no
// privilege.
func (c *OSService) Run(ctx context.Context) Result {
	unit := unitName(c.Unit)
	s, err := c.ask(ctx, unit)
	switch {
	case err != nil && ctx.Err() != nil:
		return critical(fmt.Sprintf("systemd: no answer about %s: %v", unit, ctx.Err()))
	case err != nil:
		return critical(fmt.Sprintf("systemd: %v", err))
	case s.load == "not-found":
		return critical(fmt.Sprintf("Service %s does not exist", unit))
	}
	r := Result{store.Critical, fmt.Sprintf("Service %s is %s (%s)", unit, s.active, s.sub)}
	switch s.active {
	case "active", "reloading", "refreshing":
		r.Status = store.Passing
	case "activating":
		r.Status = store.Warning
	}
	return r
}

type unitState struct{ load, active, sub string }

func (c *OSService) ask(ctx context.Context, unit string) (s unitState, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return s, err
	}
	defer func() { _ = conn.Close() }()
	// Unlike GetUnit, this also tells of units that are not loaded.
	var list []struct {
		Name, Description, Load, Active, Sub, Following string
		Path                                            dbus.ObjectPath
		JobID                                           uint32
		JobType                                         string
		JobPath                                         dbus.ObjectPath
	}
	err = conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager.ListUnitsByNames", 0, []string{unit}).Store(&list)
	if err != nil {
		return s, err
	}
	if len(list) != 1 {
		return s, fmt.Errorf("%d answers about %s", len(list), unit)
	}
	return unitState{list[0].Load, list[0].Active, list[0].Sub}, nil
}

func (c *OSService) connect(ctx context.Context) (*dbus.Conn, error) {
	address := c.Bus
	if address == "" {
		address = DefaultBus
	}
	path, ok := busSocket(address)
	if !ok {
		return nil, fmt.Errorf("the D-Bus address %q is not of the form unix:path=/...", address)
	}
	raw, err := c.Dial.orNet()(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("no D-Bus system bus: %w", err)
	}
	// From here on ctx closes the connection, whatever is read from it.
	conn, err := dbus.NewConn(raw, dbus.WithContext(ctx))
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("D-Bus system bus: %w", err)
	}
	return conn, nil
}

// busSocket is the socket of a bus's address: the first of its alternatives that
// is one.
func busSocket(address string) (string, bool) {
	for one := range strings.SplitSeq(address, ";") {
		options, ok := strings.CutPrefix(one, "unix:")
		if !ok {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			if path, ok := strings.CutPrefix(option, "path="); ok {
				return path, true
			}
			if name, ok := strings.CutPrefix(option, "abstract="); ok {
				return "@" + name, true
			}
		}
	}
	return "", false
}

// unitName is the full name of a unit, as systemctl reads it.
func unitName(name string) string {
	types := []string{"service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"}
	if i := strings.LastIndexByte(name, '.'); i >= 0 && slices.Contains(types, name[i+1:]) {
		return name
	}
	return name + ".service"
}
