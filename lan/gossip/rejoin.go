package gossip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"
)

// Timings of rejoin.
const (
	rejoinFirst  = 200 * time.Millisecond
	rejoinMost   = 30 * time.Second
	rejoinTime   = 10 * time.Second // bounds one round
	rejoinAtOnce = 3
)

// previous returns the members that the files of SnapshotFile tell of, name to
// address. serf reads the same lines of its own, and tries each member once when it
// starts.
func (c *Config) previous() (map[string]string, error) {
	if c.SnapshotFile == "" {
		return nil, nil
	}
	members, err := c.readMembers(c.SnapshotFile)
	if c.Sparse || err != nil {
		return members, err
	}
	remembered, err := c.readMembers(c.membersFile())
	maps.Copy(members, remembered)
	return members, err
}

// membersFile is where remember writes.
func (c *Config) membersFile() string {
	if c.Sparse {
		return c.SnapshotFile
	}
	return c.SnapshotFile + ".members"
}

func (c *Config) readMembers(file string) (map[string]string, error) {
	members := make(map[string]string)
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return members, nil
	}
	if err != nil {
		return members, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), ": ")
		switch kind {
		case "alive":
			if i := strings.LastIndexByte(rest, ' '); i > 0 {
				members[rest[:i]] = rest[i+1:]
			}
		case "not-alive":
			delete(members, rest)
		case "leave":
			if !c.RejoinAfterLeave {
				clear(members)
			}
		}
	}
	delete(members, c.Name)
	return members, lines.Err()
}

// rejoin joins members of the snapshot until all of them are known again, dead or
// alive: from then on serf looks after the dead. serf's own single try at the start
// finds nobody if all were away for a moment, or refused us for one.
func (p *Pool) rejoin(ctx context.Context, previous map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.reconnectTimeout())
	defer cancel()
	for pause := rejoinFirst; ; pause = min(2*pause, rejoinMost) {
		t := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		for _, m := range p.Members() {
			delete(previous, m.Name)
		}
		if len(previous) == 0 {
			return
		}
		some := make([]string, 0, rejoinAtOnce)
		for name, addr := range previous { // in random order
			if some = append(some, name+"/"+addr); len(some) == rejoinAtOnce {
				break
			}
		}
		round, done := context.WithTimeout(ctx, rejoinTime)
		if _, err := p.Join(round, some); err != nil {
			p.log.Debug("members of before not joined yet", "missing", len(previous), "err", err)
		}
		done()
	}
}

// greet exchanges the full state with members heard of, the first Config.Greet of
// them: the one that was joined may have forgotten that this agent left or failed
// when others have not, and those take it for gone until they tell it so.
func (p *Pool) greet(members []Member) {
	for _, m := range members {
		if m.Name == p.cfg.Name || p.greeted >= p.cfg.Greet {
			continue
		}
		addr := fmt.Sprintf("%s/%s", m.Name, m.AddrPort())
		if p.spawn(func(s *serf.Serf) {
			if _, err := s.Memberlist().Join([]string{addr}); err != nil {
				p.log.Debug("member not greeted", "node", m.Name, "err", err)
			}
		}) {
			p.greeted++
		}
	}
}
