package cli

import (
	"flag"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const keyReplicationPath = "/v1/internal/kv/replication"

func kvReplicationStatus() *command {
	return &command{
		name:     "kv replication status",
		synopsis: "Show how the copies of other datacenters' keys are doing",
		help: `
Shows for each block of kv_replication how far the copy is, when it was last proven
equal, and which deletions are held. Needs operator:read.

Keys that the source merely lacks are not deleted at once when they are many, when it
was restored, rebuilt or replaced, or when they were here before the first copy: they
are held. Either the source gets them, or somebody approves their deletion.

    $ landbridge kv replication status
    $ landbridge kv replication status -datacenter=dc2 -format=json`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				var list []keyReplicationDetail
				return api.show(c, *format, keyReplicationPath, "Error reading the status of key replication", &list, func() {
					if len(list) == 0 {
						c.println("This datacenter copies no keys of others (kv_replication), or has just changed its leader")
					}
					for i := range list {
						if i > 0 {
							c.println("")
						}
						c.printKeyReplication(&list[i])
					}
				})
			}
		},
	}
}

// keyReplicationDetail is what the status shows of the endpoint's answer.
type keyReplicationDetail struct {
	SourceDatacenter, Prefix, Target string
	Exclude                          []string
	Running, Connected, Healthy      bool
	Position, SourcePosition         uint64
	LagSeconds                       float64
	LastSuccess, LastError           time.Time
	LastProof, HeldSince             time.Time
	LastErrorMessage                 string
	Held                             int
	HeldID, HeldReason               string
	HeldKeys                         []string
}

func (c *call) printKeyReplication(st *keyReplicationDetail) {
	when := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.Format(time.RFC3339)
	}
	c.printf("Copy:          %s of %s to %s\n", printable(st.Prefix), printable(st.SourceDatacenter), printable(st.Target))
	if len(st.Exclude) > 0 {
		c.printf("Without:       %s\n", printable(strings.Join(st.Exclude, ", ")))
	}
	c.printf("Healthy:       %v\n", st.Healthy)
	c.printf("Position:      %d of %d, %s behind\n", st.Position, st.SourcePosition, time.Duration(st.LagSeconds*float64(time.Second)).Round(time.Millisecond))
	c.printf("Last success:  %s\nLast proof:    %s\n", when(st.LastSuccess), when(st.LastProof))
	if !st.LastError.IsZero() {
		c.printf("Last error:    %s: %s\n", when(st.LastError), printable(st.LastErrorMessage))
	}
	if st.Held == 0 {
		return
	}
	c.printf("Held:          %d deletions since %s, for %s.\n", st.Held, when(st.HeldSince), printable(st.HeldReason))
	for _, key := range st.HeldKeys {
		c.printf("   %s\n", printable(key))
	}
	if more := st.Held - len(st.HeldKeys); more > 0 {
		c.printf("   and %d more\n", more)
	}
	c.printf("To delete them:\n   landbridge kv replication approve %s\n", printable(st.HeldID))
}

func kvReplicationApprove() *command {
	return &command{
		name:     "kv replication approve",
		args:     "ID",
		synopsis: "Make the deletions of copied keys that are held",
		help: `
Deletes here what the source lacks, and the status shows as held. ID is the one that the
status shows: if other deletions are held by now, nothing is done. Needs operator:write.

    $ landbridge kv replication status
    $ landbridge kv replication approve 3f1c09aa51e2`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) != 1 {
					return usagef("This command needs the ID of the held deletions, which `landbridge kv replication status` shows")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var done struct{ Deleted int }
				if err := cl.Put(c.ctx, keyReplicationPath+"/approve", url.Values{"id": {c.args[0]}}, nil, &done); err != nil {
					return failf("Error approving deletions: %w", err)
				}
				c.println(fmt.Sprintf("%d keys deleted", done.Deleted))
				return nil
			}
		},
	}
}
