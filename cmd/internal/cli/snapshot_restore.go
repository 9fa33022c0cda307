package cli

import (
	"flag"
	"io"
	"net/http"
	"os"
)

func snapshotRestore() *command {
	return &command{
		name:     "snapshot restore",
		args:     "FILE",
		synopsis: "Replace the state of a datacenter by a saved one",
		help: `
Replaces the whole state of a datacenter, on all its servers, by the one in the
file: what was written since is gone. The servers check all of the file first and
change nothing unless it is whole.

What says whom the datacenter trusts stays as it is: certificates, roots, who was
evicted. Indexes go on from where they are, so programs that watch are told.
Agents bring their services up to date by themselves.

The file must be one of landbridge's own; values of another product's key/value
store move by "kv export" and "kv import".

    $ landbridge snapshot restore backup.snap`,
		setup: func(fs *flag.FlagSet) run {
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
				// The servers check as well; here it costs no transfer.
				if _, err := checkSnapshot(c.args[0]); err != nil {
					return failf("Error reading snapshot file: %w", err)
				}
				f, err := os.Open(c.args[0])
				if err != nil {
					return failf("Error opening snapshot file: %w", err)
				}
				defer f.Close()
				resp, err := cl.Do(c.ctx, http.MethodPut, "/v1/snapshot", nil, f)
				if err != nil {
					return failf("Error restoring snapshot: %w", err)
				}
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					return failf("Error restoring snapshot: %w", err)
				}
				c.println("Restored snapshot")
				return nil
			}
		},
	}
}
