package cli

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"landbridge/cmd/internal/config"
	"landbridge/store/raftlog"
)

func raftForget() *command {
	return &command{
		name:     "operator raft forget",
		synopsis: "Make this machine's server one that never had Raft state",
		help: `
A server that had Raft state and finds none refuses to start: an empty store is
never shown as the truth, and a vote given twice could lose writes. If the state
is gone for good, this command lets the server start as a new one, with a new
node ID: it joins the other servers and gets the state from them. What is left
in the raft folder is moved aside, not deleted.

Run it where the server runs, with the server stopped. If no other server lives,
the datacenter's state is lost; restore a snapshot afterwards.

    $ landbridge operator raft forget -data-dir=/var/lib/landbridge -yes
    $ landbridge operator raft forget -config-dir=/etc/landbridge -yes`,
		setup: func(fs *flag.FlagSet) run {
			l := &config.Loader{}
			l.AddFileFlags(fs)
			dir := fs.String("data-dir", "", "The server's data directory, if no configuration names it. `DIR`")
			yes := fs.Bool("yes", false, "Really do it.")
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				data, cfg, err := c.dataDir(l, *dir)
				if err != nil {
					return err
				}
				if cfg != nil && cfg.NodeID != "" {
					fmt.Fprintf(c.Stderr, "Warning: the configuration sets node_id to %s. Change it before the server starts:\nthe others do not take it in as a voter under the ID that has forgotten its votes.\n", cfg.NodeID)
				}
				if !*yes {
					return failf("This makes the server in %s forget its Raft state. Say -yes to do it.", data)
				}
				marker, err := raftlog.ReadMarker(data)
				if err != nil {
					c.printf("The marker cannot be read (%s); it is removed all the same.\n", err)
				}
				moved, err := raftlog.Forget(data)
				if err != nil {
					return failf("Error forgetting the Raft state: %w", err)
				}
				if err := forgetNodeID(data); err != nil {
					return failf("Error removing the node ID: %w", err)
				}
				if marker != nil {
					c.printf("Forgot Raft server %s of cluster %q, which had reached term %d.\n", marker.RaftID, marker.ClusterID, marker.Term)
				} else {
					c.printf("There was no marker in %s.\n", data)
				}
				if moved != "" {
					c.printf("What was left is kept in %s.\n", moved)
				}
				c.println("The server starts as a new one. Now start it.")
				return nil
			}
		},
	}
}

// dataDir finds the data directory: by the flag, or in configuration files, which it
// returns too.
func (c *call) dataDir(l *config.Loader, dir string) (string, *config.Config, error) {
	var cfg *config.Config
	if dir == "" {
		if len(l.Files) == 0 {
			return "", nil, usagef("Say where the server keeps its data: -data-dir, -config-file or -config-dir")
		}
		var err error
		if cfg, _, err = l.Load(); err != nil {
			return "", nil, failf("Error reading the configuration: %s", problems(err))
		}
		dir = cfg.DataDir
	}
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return "", nil, failf("Error: data directory: %w", err)
	}
	return filepath.Clean(dir), cfg, nil
}

// forgetNodeID removes the persisted ID: the old one may have voted, and the
// other servers refuse to take it in again as a voter.
func forgetNodeID(dir string) error {
	err := os.Remove(filepath.Join(dir, "node-id"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
