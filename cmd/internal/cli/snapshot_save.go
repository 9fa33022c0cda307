package cli

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"landbridge/cmd/internal/client"
)

func snapshotSave() *command {
	return &command{
		name:     "snapshot save",
		args:     "FILE",
		synopsis: "Save the state of a datacenter to a file",
		help: `
Saves everything that the servers of a datacenter keep: catalog, keys, sessions,
queries, settings. The file is written under another name first, checked from
its first byte to its last, and only then gets its name.

It is a moment of the leader's state; with -stale any server gives one, also
when there is no leader. Private keys of the federation never leave the servers:
a datacenter restored into new servers joins its federation again.

The file holds what the state holds, secrets among the values included: keep it
like one. It can only be read by its owner.

    $ landbridge snapshot save backup.snap
    $ landbridge snapshot save -datacenter=dc2 -append-filename=dc,status backup.snap`,
		setup: func(fs *flag.FlagSet) run {
			var parts []string
			fs.Func("append-filename", "Facts to put into the file's name, before its ending: version, dc, node or status (leader or follower), with commas between. `LIST`", func(s string) error {
				for p := range strings.SplitSeq(s, ",") {
					switch p = strings.TrimSpace(p); p {
					case "version", "dc", "node", "status":
						parts = append(parts, p)
					default:
						return fmt.Errorf("%q is none of version, dc, node, status", p)
					}
				}
				return nil
			})
			api := addAPI(fs)
			return func(c *call) error {
				switch {
				case len(c.args) == 0:
					return usagef("Missing FILE argument")
				case len(c.args) > 1:
					return c.atMost(1)
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				name := c.args[0]
				if len(parts) > 0 {
					if name, err = c.describedName(cl, name, parts); err != nil {
						return err
					}
				}
				return c.saveSnapshot(cl, name)
			}
		},
	}
}

// describedName puts facts about the agent that is asked into a file's name.
func (c *call) describedName(cl *client.Client, name string, parts []string) (string, error) {
	var self struct {
		Config struct{ Datacenter, NodeName, Version string }
		Stats  map[string]map[string]string
	}
	if err := cl.Get(c.ctx, "/v1/agent/self", nil, &self); err != nil {
		return "", failf("Error asking the agent about itself: %w", err)
	}
	ext := filepath.Ext(name)
	name = strings.TrimSuffix(name, ext)
	for _, p := range parts {
		switch p {
		case "version":
			name += "-" + self.Config.Version
		case "dc":
			name += "-" + self.Config.Datacenter
		case "node":
			name += "-" + self.Config.NodeName
		case "status":
			if self.Stats["consul"]["leader"] == "true" {
				name += "-leader"
			} else {
				name += "-follower"
			}
		}
	}
	return name + ext, nil
}

func (c *call) saveSnapshot(cl *client.Client, name string) error {
	resp, err := cl.Do(c.ctx, http.MethodGet, "/v1/snapshot", nil, nil)
	if err != nil {
		return failf("Error saving snapshot: %w", err)
	}
	defer resp.Body.Close()
	unverified := name + ".unverified"
	f, err := os.OpenFile(unverified, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return failf("Error creating snapshot file: %w", err)
	}
	saved := false
	defer func() {
		if !saved {
			f.Close()
			os.Remove(unverified)
		}
	}()
	if _, err := io.Copy(f, resp.Body); err != nil {
		return failf("Error writing snapshot file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return failf("Error writing snapshot file after fsync: %w", err)
	}
	if err := f.Close(); err != nil {
		return failf("Error closing snapshot file after writing: %w", err)
	}
	meta, err := checkSnapshot(unverified)
	if err != nil {
		return failf("Error verifying snapshot file: %w", err)
	}
	if err := os.Rename(unverified, name); err != nil {
		return failf("Error renaming the snapshot file: %w", err)
	}
	saved = true
	c.printf("Saved and verified snapshot to index %d\n", meta.Index)
	return nil
}
