package gossip

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

const (
	// rememberMost bounds the members that the file names.
	rememberMost = 64
	// rememberPause is between a change and the writing of the file, so that a pool
	// that forms costs one or two writes.
	rememberPause = 2 * time.Second
)

// remembered is the way back into the pool: where the servers are, and some others.
// serf's own snapshot holds all members and the clocks of events, looks after them
// twice a second for ever, and has what it wrote last in memory until something else
// happens. The lines are the same, so that a client agent may become a server, and one
// of another version read them. One goroutine owns it, but for store.
type remembered struct {
	file    string
	rejoin  bool              // after a leave, too
	members map[string]string // name -> address, at most rememberMost
	servers map[string]bool   // those of them that are servers
	left    bool              // this agent has left: nothing changes any more
	changed bool              // since the last text
}

func newRemembered(c *Config) *remembered {
	return &remembered{file: c.membersFile(), rejoin: c.RejoinAfterLeave, members: make(map[string]string), servers: make(map[string]bool)}
}

// note takes over an event. A server takes the place of another member.
func (r *remembered) note(self string, ev Event) {
	if r.left {
		return
	}
	for _, m := range ev.Members {
		if m.Name == self {
			continue
		}
		_, have := r.members[m.Name]
		switch ev.Kind {
		case Gone, Reaped:
			if have {
				r.forget(m.Name)
			}
			continue
		case Lost:
			continue // it may be this agent that is cut off
		}
		server := m.Tags["role"] == "consul"
		if !have && len(r.members) >= rememberMost {
			if !server || !r.makeRoom() {
				continue
			}
		}
		addr := m.AddrPort().String()
		if r.members[m.Name] != addr || r.servers[m.Name] != server {
			r.members[m.Name], r.servers[m.Name], r.changed = addr, server, true
		}
	}
}

// resync takes over what the pool is after events were missed.
func (r *remembered) resync(self string, members []Member) {
	alive := Event{Kind: Joined}
	gone := maps.Clone(r.members)
	for _, m := range members {
		if m.Status != Left {
			delete(gone, m.Name)
		}
		if m.Status == Alive {
			alive.Members = append(alive.Members, m)
		}
	}
	for name := range gone {
		r.forget(name)
	}
	r.note(self, alive)
}

func (r *remembered) forget(name string) {
	delete(r.members, name)
	delete(r.servers, name)
	r.changed = true
}

// makeRoom forgets one that is no server; false if all are.
func (r *remembered) makeRoom() bool {
	for name := range r.members {
		if !r.servers[name] {
			r.forget(name)
			return true
		}
	}
	return false
}

// leave makes the file say that this agent left on purpose.
func (r *remembered) leave() {
	if r.left = true; !r.rejoin {
		clear(r.members)
		clear(r.servers)
	}
	r.changed = true
}

// text is what the file is to say; false if it says so.
func (r *remembered) text() ([]byte, bool) {
	if !r.changed {
		return nil, false
	}
	r.changed = false
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(r.members)) {
		b = fmt.Appendf(b, "alive: %s %s\n", name, r.members[name])
	}
	if r.left {
		b = append(b, "leave\n"...)
	}
	return b, true
}

// store replaces the file.
func (r *remembered) store(text []byte) error {
	next := r.file + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		_ = os.Remove(next) // a part of it, on a full disk
		return err
	}
	return os.Rename(next, r.file)
}

// remember keeps the snapshot until ctx ends, and writes what is left then.
func (p *Pool) remember(ctx context.Context, events <-chan Event) {
	r := newRemembered(&p.cfg)
	write := func() {
		text, ok := r.text()
		if !ok {
			return
		}
		if err := r.store(text); err != nil {
			p.log.Warn("members are not remembered: after a restart this agent finds the pool by the addresses to join alone", "file", r.file, "err", err)
		}
	}
	defer write()
	t := time.NewTimer(time.Hour)
	t.Stop()
	defer t.Stop()
	waits := false
	for {
		select {
		case <-ctx.Done():
			select {
			case <-p.left:
				r.leave()
			default:
			}
			return
		case <-p.left:
			r.leave()
			write()
		case <-t.C:
			waits = false
			write()
		case ev, ok := <-events:
			if !ok {
				return
			}
			if ev.Kind == Resync {
				r.resync(p.cfg.Name, p.Members())
			} else {
				r.note(p.cfg.Name, ev)
			}
			if r.changed && !waits {
				waits = true
				t.Reset(rememberPause)
			}
		}
	}
}
