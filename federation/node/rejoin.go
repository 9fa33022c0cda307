package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// serverMetadata is server_metadata.json (spec config.md 11): when this server
// last ran.
type serverMetadata struct {
	LastSeenUnix int64 `json:"last_seen_unix"`
}

const (
	serverMetadataFile = "server_metadata.json"
	// seenEvery is how far behind the file may be when the machine dies.
	seenEvery = time.Hour
)

// checkAge refuses to start a server that was away for longer than
// server_rejoin_age_max: its datacenter has long gone on without it, and its
// state may hold what the others deleted and forgot.
func (n *Node) checkAge() error {
	if !n.cfg.Server || n.cfg.DataDir == "" || n.cfg.ServerRejoinAgeMax <= 0 {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(n.cfg.DataDir, serverMetadataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var m serverMetadata
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		// A file that says nothing is no reason to lose a server.
		n.log.Warn("cannot tell how long this server was away", "file", serverMetadataFile, "err", err)
		return nil
	}
	away := time.Since(time.Unix(m.LastSeenUnix, 0))
	if away <= n.cfg.ServerRejoinAgeMax {
		return nil
	}
	return fmt.Errorf("refusing to rejoin cluster because this server has been offline for %s, more than server_rejoin_age_max (%s): "+
		"wipe its data_dir to have it join as a new server, or raise the setting",
		away.Truncate(time.Second), n.cfg.ServerRejoinAgeMax)
}

// keepSeen writes down every hour that this server runs, and once more when it ends.
func (n *Node) keepSeen(ctx context.Context) error {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for {
		if err := n.writeSeen(); err != nil {
			// Without the file the next start is not refused, so a full disk here
			// costs nothing that works.
			n.log.Warn("cannot write down that this server runs", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n.writeSeen()
		}
	}
}

func (n *Node) writeSeen() error {
	raw, err := json.Marshal(serverMetadata{LastSeenUnix: time.Now().Unix()})
	if err != nil {
		return err
	}
	return writeDurably(n.cfg.DataDir, serverMetadataFile, raw)
}

// writeDurably replaces a file of dir as a whole.
func writeDurably(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, name+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
