package cli

import (
	"flag"
	"fmt"
	"net/url"
	"time"
)

const replicationPath = "/v1/internal/acl/replication"

func aclReplicationStatus() *command {
	return &command{
		name:     "acl replication status",
		synopsis: "Show how the copy of the primary's ACLs is doing",
		help: `
Shows how far the copy of the primary datacenter's ACLs is, when it was last proven
equal, and which deletions are held. Only a secondary datacenter has a copy; ask one
with -datacenter. Needs acl:read.

Records that the primary merely lacks are not deleted at once when they are many, or
when the primary was restored, rebuilt or replaced: they are held, and go on working
here. Either the primary gets them back, or somebody approves their deletion.

    $ landbridge acl replication status
    $ landbridge acl replication status -datacenter=dc2 -format=json`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				var st replicationDetail
				return api.show(c, *format, replicationPath, "Error reading the status of ACL replication", &st, func() { c.printReplication(&st) })
			}
		},
	}
}

// replicationDetail is what the status shows of the endpoint's answer.
type replicationDetail struct {
	Enabled, Running, Connected, Healthy   bool
	SourceDatacenter, ReplicationType      string
	SourceCluster, SourceHistory           string
	Position, SourcePosition, LagPositions uint64
	LagSeconds                             float64
	LastSuccess, LastError, LastProof      time.Time
	LastErrorMessage, HeldID, HeldReason   string
	Held, Refused, Undoable                int
	HeldSince, UndoableSince               time.Time
	LastRefusal                            string
	HeldRecords                            []struct{ Kind, ID, Name string }
}

func (c *call) printReplication(st *replicationDetail) {
	if !st.Enabled {
		c.println("This datacenter owns its ACLs, or has none: there is nothing to replicate")
		return
	}
	when := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.Format(time.RFC3339)
	}
	c.printf("Source:        %s (%s), cluster %s\n", printable(st.SourceDatacenter), printable(st.ReplicationType), printable(st.SourceCluster))
	c.printf("Running:       %v\nHealthy:       %v\n", st.Running, st.Healthy)
	c.printf("Position:      %d of %d\n", st.Position, st.SourcePosition)
	c.printf("Lag:           %d positions, %s\n", st.LagPositions, time.Duration(st.LagSeconds*float64(time.Second)).Round(time.Millisecond))
	c.printf("Last success:  %s\nLast proof:    %s\n", when(st.LastSuccess), when(st.LastProof))
	if !st.LastError.IsZero() {
		c.printf("Last error:    %s: %s\n", when(st.LastError), printable(st.LastErrorMessage))
	}
	if st.Refused > 0 {
		c.printf("Refused:       %d records: %s\n", st.Refused, printable(st.LastRefusal))
	}
	if st.Undoable > 0 {
		c.printf("Undoable:      %d deletions since %s\n", st.Undoable, when(st.UndoableSince))
	}
	if st.Held == 0 {
		return
	}
	c.printf("\nHeld: %d deletions since %s, for %s.\n", st.Held, when(st.HeldSince), printable(st.HeldReason))
	for _, r := range st.HeldRecords {
		c.printf("   %s %s %s\n", r.Kind, printable(r.ID), printable(r.Name))
	}
	if more := st.Held - len(st.HeldRecords); more > 0 {
		c.printf("   and %d more\n", more)
	}
	c.printf("\nThese records work here as before. To delete them:\n   landbridge acl replication approve %s\n", printable(st.HeldID))
}

func aclReplicationApprove() *command {
	return &command{
		name:     "acl replication approve",
		args:     "ID",
		synopsis: "Make the deletions that are held",
		help: `
Deletes here what the primary datacenter lacks, and the status shows as held. ID is
the one that the status shows: if other deletions are held by now, nothing is done.
Needs acl:write. What was deleted can be brought back for a day.

    $ landbridge acl replication status
    $ landbridge acl replication approve 3f1c09aa51e2`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) != 1 {
					return usagef("This command needs the ID of the held deletions, which `landbridge acl replication status` shows")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var done struct{ Deleted int }
				if err := cl.Put(c.ctx, replicationPath+"/approve", url.Values{"id": {c.args[0]}}, nil, &done); err != nil {
					return failf("Error approving deletions: %w", err)
				}
				c.println(fmt.Sprintf("%d records deleted", done.Deleted))
				return nil
			}
		},
	}
}

func aclReplicationUndo() *command {
	return &command{
		name:     "acl replication undo",
		synopsis: "Bring back what replication deleted",
		help: `
Brings back the records that replication deleted in this datacenter, all that are kept
(a day's) or those of the last while (-since). They work at once; since the primary
does not have them, they are held until it does, or their deletion is approved.
Needs acl:write. Records whose name or secret another one has now are skipped.

    $ landbridge acl replication undo -since=15m`,
		setup: func(fs *flag.FlagSet) run {
			since := fs.Duration("since", 0, "How far to go back, 0 as far as possible. `DURATION`")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				q := url.Values{}
				if *since < 0 {
					return failf("-since must not be negative, is %s", *since)
				} else if *since > 0 {
					q.Set("since", since.String())
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var done struct{ Restored, Skipped int }
				if err := cl.Put(c.ctx, replicationPath+"/undo", q, nil, &done); err != nil {
					return failf("Error undoing deletions: %w", err)
				}
				c.println(fmt.Sprintf("%d records brought back, %d skipped", done.Restored, done.Skipped))
				return nil
			}
		},
	}
}
