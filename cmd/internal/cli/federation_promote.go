package cli

import (
	"errors"
	"flag"
	"net/http"
	"slices"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
)

const promotePath = "/v1/internal/federation/promote"

func federationPromote() *command {
	return &command{
		name:     "federation promote",
		synopsis: "Make a datacenter the primary in place of one that is lost",
		help: `
Makes the datacenter of the asked agent (or -datacenter) the primary: it owns ACLs,
evictions and the federation's certificates from then on. For when the primary is
gone, for good or for hours. Shows first what is known and what will happen; does it
with -yes.

    $ landbridge federation promote
    $ landbridge federation promote -yes

Needs operator:write and acl:write. Other datacenters follow by themselves if they
know the token by which it was asked for; in the others somebody says so ("landbridge
federation follow"). When the old primary is back it finds out, writes no shared ACLs
any more, and follows too; what the new one never saw of its changes is kept, and
listed by "landbridge federation unseen".

While the old primary answers this is refused: stop it, or say -force. Then there are
two primaries until the old one hears of it, seconds if it can, and what it accepts
meanwhile is seen by nobody else.

Change primary_datacenter in the configuration of all agents afterwards; the
recorded promotion holds until then.`,
		setup: func(fs *flag.FlagSet) run {
			yes := fs.Bool("yes", false, "Do it.")
			force := fs.Bool("force", false, "Although the primary answers: there are two until it hears of it.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var plan client.PromotionPlan
				if err := cl.Get(c.ctx, "/v1/internal/federation/promotion", nil, &plan); err != nil {
					if old := c.otherReleases(cl, err); len(old) > 0 {
						return failf("Nothing can be promoted before all servers here have release %s; upgrade these first: %s", release, printable(strings.Join(old, ", ")))
					}
					return failf("Error looking at the federation: %w", err)
				}
				if !*yes {
					if *format == "json" {
						return c.printJSON(plan)
					}
					c.printPlan(&plan, *force)
					return nil
				}
				var done client.Promotion
				if err := cl.Put(c.ctx, promotePath, nil, map[string]bool{"Force": *force}, &done); err != nil {
					return failf("Error promoting datacenter %s: %w", plan.Datacenter, err)
				}
				if *format == "json" {
					return c.printJSON(done)
				}
				c.printf("Datacenter %s is the primary, in term %d.\n", printable(done.Primary), done.Term)
				c.printf("Set primary_datacenter = %q in the configuration of all agents.\n", printable(done.Primary))
				return nil
			}
		},
	}
}

// otherReleases are the servers of the asked agent's datacenter that have another
// release than this command, if err is what one says that does not know a request.
func (c *call) otherReleases(cl *client.Client, err error) (list []string) {
	var status *client.StatusError
	if !errors.As(err, &status) || status.Code != http.StatusNotFound && !strings.Contains(status.Body, "the caller is newer") {
		return nil
	}
	var members []client.Member
	if cl.Get(c.ctx, "/v1/agent/members", nil, &members) != nil {
		return nil
	}
	for _, m := range members {
		if _, r, _ := strings.Cut(m.Tags["build"], ":"); m.Tags["role"] == "consul" && r != release {
			list = append(list, m.Name+" ("+r+")")
		}
	}
	slices.Sort(list)
	return list
}

func (c *call) printPlan(p *client.PromotionPlan, force bool) {
	if p.Refused != "" {
		c.printf("Datacenter %s cannot be promoted: %s\n", printable(p.Datacenter), printable(p.Refused))
		return
	}
	c.printf("Datacenter %s would be the primary of %s, in place of %s, in term %d.\n\n",
		printable(p.Datacenter), printable(strings.Join(p.Datacenters, ", ")), printable(p.Primary), p.Term+1)
	if p.PrimaryAnswers {
		c.printf("Primary:       %s ANSWERS. What it accepts from now on would be seen by nobody else\n", printable(p.Primary))
	} else {
		c.printf("Primary:       %s gives no answer: %s\n", printable(p.Primary), printable(p.PrimaryError))
	}
	if p.Copy == "none" {
		c.println("ACLs:          no copy: they are off, or this datacenter has its own")
	} else {
		what := p.Copy
		if what == "hashed" {
			what = "tokens"
		}
		c.printf("ACLs:          copy of %s up to position %d, last heard %s, %s behind\n", printable(what), p.Position, day(p.LastSuccess), (time.Duration(p.LagSeconds * float64(time.Second))).Round(time.Second))
		if p.Copy == "policies" {
			c.println("               Tokens are not copied (acl.enable_token_replication): the primary's tokens stop working everywhere")
		}
		if p.TokensWithoutSecret > 0 {
			c.printf("               %d tokens are here without their secrets: they go on to work, and cannot be shown, here or elsewhere,\n", p.TokensWithoutSecret)
			c.println("               until a datacenter that has the secrets hands them over: landbridge federation unseen -apply there")
		}
		if p.Held > 0 {
			c.printf("               %d deletions are held: the records stay\n", p.Held)
		}
	}
	c.printf("Certificates:  a new root; the present one (%s) stays trusted until all datacenters have\n", printable(p.Root[:min(16, len(p.Root))]))
	c.printf("               certificates below the new one, or it is dropped: landbridge wan ca prune\n")
	c.printf("Then:          %s is fenced when it is back; landbridge federation unseen lists what was lost of its changes\n\n", printable(p.Primary))
	if p.PrimaryAnswers && !force {
		c.printf("Nothing was done. With -yes alone it is refused as long as %s answers; say -yes -force if that is meant.\n", printable(p.Primary))
	} else {
		c.println("Nothing was done. To do it, say -yes.")
	}
}

func federationFollow() *command {
	return &command{
		name:     "federation follow",
		args:     "DATACENTER",
		synopsis: "Accept that another datacenter was promoted",
		help: `
Accepts, for the datacenter of the asked agent (or -datacenter), that DATACENTER is the
primary: ACLs and certificates come from there from now on. Datacenters accept a
promotion by themselves if they know the token by which it was asked for; "landbridge
wan ca status" shows one that waits for this command. A lower term than the one in
force is never followed. Needs operator:write and acl:write.

    $ landbridge federation follow dc2
    $ landbridge federation follow -datacenter=dc3 dc2`,
		setup: func(fs *flag.FlagSet) run {
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) != 1 {
					return usagef("One datacenter must be named: the one that was promoted.")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var done client.Promotion
				if err := cl.Put(c.ctx, "/v1/internal/federation/follow", nil, map[string]string{"Datacenter": c.args[0]}, &done); err != nil {
					return failf("Error following datacenter %s: %w", c.args[0], err)
				}
				c.printf("The primary is %s, in term %d.\n", printable(done.Primary), done.Term)
				return nil
			}
		},
	}
}

func federationForget() *command {
	return &command{
		name:     "federation forget-datacenter",
		args:     "DATACENTER",
		synopsis: "Free the name of a datacenter whose data is lost",
		help: `
Forgets the cluster that has a datacenter's name: its certificates are refused for good,
no rotation of roots waits for it, and another cluster may join under the name. For a
datacenter that was rebuilt empty. It cannot be the primary: promote another one first.
Needs operator:write.

    $ landbridge federation promote -yes
    $ landbridge federation forget-datacenter -yes dc1
    $ landbridge wan token -for=dc1`,
		setup: func(fs *flag.FlagSet) run {
			yes := fs.Bool("yes", false, "Do it.")
			api := addAPI(fs)
			return func(c *call) error {
				if len(c.args) != 1 {
					return usagef("One datacenter must be named.")
				}
				if !*yes {
					return usagef("The servers of %q are refused for good by this, whatever they hold: say -yes.", c.args[0])
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				if err := cl.Put(c.ctx, "/v1/internal/federation/forget", nil, map[string]string{"Datacenter": c.args[0]}, nil); err != nil {
					return failf("Error forgetting datacenter %s: %w", c.args[0], err)
				}
				c.printf("The name %s is free.\n", printable(c.args[0]))
				return nil
			}
		},
	}
}

func federationUnseen() *command {
	return &command{
		name:     "federation unseen",
		args:     "[ID...]",
		synopsis: "Show ACL changes that a promoted primary never saw",
		help: `
Lists, of the datacenter of the asked agent (or -datacenter), the changes of ACLs from
before a promotion that the new primary never saw: in the old primary what it had
written last, in others what they had copied of that. They are kept until somebody
brings them to the primary (-apply) or discards them (-discard): those whose ids are
given, or -all. Needs acl:read, and acl:write to settle them.

    $ landbridge federation unseen
    $ landbridge federation unseen -apply -all
    $ landbridge federation unseen -discard 00000001-0000-4000-8000-000000000000

created  a record that only this datacenter has; it works here. Discarding all deletes
         it here, which "landbridge acl replication undo" takes back for a day
changed  the primary has an older form, which is in force
deleted  the primary has it still, and so it is here again
secret   the primary has the token without its secret. Applying brings that and nothing
         else; it leaves the list once the primary has it, or deletes the token`,
		setup: func(fs *flag.FlagSet) run {
			apply := fs.Bool("apply", false, "Write the changes in the primary.")
			discard := fs.Bool("discard", false, "Forget the changes.")
			all := fs.Bool("all", false, "All changes.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				settle := *apply || *discard
				switch {
				case *apply && *discard:
					return usagef("-apply and -discard exclude each other.")
				case !settle && (*all || len(c.args) > 0):
					return usagef("-all and ids need -apply or -discard.")
				case settle && *all == (len(c.args) > 0):
					return usagef("Name the ids, or say -all.")
				}
				if !settle {
					var list client.UnseenList
					ids := c.args
					c.args = nil
					err := api.show(c, *format, "/v1/internal/federation/unseen", "Error listing unseen changes", &list, func() { c.printUnseen(&list) })
					c.args = ids
					return err
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				in := struct {
					Discard, All bool
					IDs          []string
				}{*discard, *all, c.args}
				var done struct {
					Applied, Discarded int
					Errors             []string
				}
				if err := cl.Put(c.ctx, "/v1/internal/federation/unseen/settle", nil, in, &done); err != nil {
					return failf("Error settling unseen changes: %w", err)
				}
				if *format == "json" {
					return c.printJSON(done)
				}
				c.printf("%d changes applied, %d discarded\n", done.Applied, done.Discarded)
				for _, e := range done.Errors {
					c.printf("   not applied: %s\n", printable(e))
				}
				if len(done.Errors) > 0 {
					return failf("%d changes were not applied", len(done.Errors))
				}
				return nil
			}
		},
	}
}

func (c *call) printUnseen(l *client.UnseenList) {
	if len(l.Changes) == 0 {
		c.println("No unseen changes are kept here.")
		return
	}
	c.printf("Changes of before %s was promoted in place of %s (term %d), which it never saw:\n\n", printable(l.Primary), printable(l.Former), l.Term)
	rows := [][]string{{"Change", "Kind", "ID", "Name"}}
	for _, u := range l.Changes {
		rows = append(rows, []string{printable(u.Change), printable(u.Kind), printable(u.ID), printable(u.Name)})
	}
	columns(c.Stdout, rows, nil)
}
