package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
)

const caStatusPath = "/v1/internal/federation/ca"

func wanCAStatus() *command {
	return &command{
		name:     "wan ca status",
		synopsis: "Show the certificates that datacenters trust",
		help: `
Shows the root, the datacenter's own issuing certificate and the asked server's
certificate, when they expire, which datacenters still wait for a new root, who
is evicted, and which join tokens are good. All of them are replaced by
themselves in time.

    $ landbridge wan ca status

As another datacenter sees it:

    $ landbridge wan ca status -datacenter=dc2`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				var st client.CAStatus
				return api.show(c, *format, caStatusPath, "Error getting the state of certificates", &st, func() { c.printCA(&st, time.Now()) })
			}
		},
	}
}

func (c *call) printCA(st *client.CAStatus, now time.Time) {
	primary := printable(st.Primary)
	if primary == "" {
		primary = "undecided: this datacenter has not joined another"
	}
	c.printf("Datacenter:    %s, as its server %s sees it\nPrimary:       %s\nCertificates:  %s\n", printable(st.Datacenter), printable(st.Node), primary, printable(st.Mode))
	if st.Unauthenticated {
		c.println("WARNING:       a join without authentication was made since this server started")
	}
	if p := st.Promotion; p != nil {
		c.printf("Term:          %d, since %s, in place of %s\n", p.Term, day(p.At), printable(p.Former))
	}
	if p := st.Claim; p != nil {
		c.printf("WARNING:       %s was promoted in place of %s at %s (term %d), which is not accepted here: landbridge federation follow %s\n",
			printable(p.Primary), printable(p.Former), day(p.At), p.Term, printable(p.Primary))
	}
	if st.Configured != "" {
		c.printf("WARNING:       primary_datacenter = %q in the configuration is out of date\n", printable(st.Configured))
	}
	short := func(id string) string { return printable(id[:min(len(id), 16)]) }
	rows := [][]string{{"Certificate", "ID", "Made", "Expires", "State"}}
	add := func(what string, x *client.CACert, state string) {
		rows = append(rows, []string{what, short(x.ID), day(x.Made), day(x.NotAfter) + " (" + left(x.NotAfter.Sub(now)) + ")", state})
	}
	for i := range st.Roots {
		add("root", &st.Roots[i], printable(st.Roots[i].State))
	}
	under := func(x *client.CACert) string {
		if x.Root == "" {
			return ""
		}
		return "below " + short(x.Root)
	}
	add("intermediate", &st.Intermediate, under(&st.Intermediate))
	if st.Server != nil {
		add("server", st.Server, under(st.Server))
	}
	c.println()
	columns(c.Stdout, rows, nil)
	var waiting, all []string
	for _, d := range st.Datacenters {
		all = append(all, printable(d.Name))
		if !d.Done {
			waiting = append(waiting, printable(d.Name))
		}
	}
	c.printf("\nDatacenters:   %s\n", strings.Join(all, ", "))
	if len(waiting) > 0 && st.Datacenter == st.Primary {
		c.printf("A new root is on its way; these still use the one before: %s\n", strings.Join(waiting, ", "))
	}
	for _, r := range st.Revoked {
		who := printable(r.Datacenter) + " (the whole datacenter)"
		if r.Node != "" {
			who = printable(r.Node + "." + r.Datacenter)
		}
		if r.Lifted != nil {
			c.printf("Let in again:  %s, since %s; certificates from before are refused\n", who, day(*r.Lifted))
		} else {
			c.printf("Evicted:       %s, since %s\n", who, day(r.Evicted))
		}
	}
	for _, t := range st.Tokens {
		state := "not used"
		if t.UsedBy != "" {
			state = "used by " + printable(t.UsedBy)
		}
		if t.Datacenter != "" {
			state += ", for " + printable(t.Datacenter) + " only"
		}
		c.printf("Join token:    %s, until %s, %s\n", printable(t.ID), day(t.Expires), state)
	}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// left says how long something has to go, in its largest unit.
func left(d time.Duration) string {
	const aDay = 24 * time.Hour
	switch {
	case d < 0:
		return "EXPIRED"
	case d >= 2*aDay:
		return fmt.Sprintf("%d days", d/aDay)
	case d >= time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes", d/time.Minute)
}

func wanCARotate() *command {
	return &command{
		name:     "wan ca rotate",
		synopsis: "Replace certificates now",
		help: `
Replaces certificates before they are due, without an interruption: those who
have not heard of a new one accept both meanwhile.

All server certificates of the asked agent's datacenter, or of another:

    $ landbridge wan ca rotate -servers
    $ landbridge wan ca rotate -servers -datacenter=dc2

The issuing certificate of a datacenter, and with it those of its servers:

    $ landbridge wan ca rotate -intermediate

The root of the federation, and with it everything. The one before stays trusted
until all datacenters have certificates below the new one; one that is away now
catches up when it is back. -wait returns when all are done:

    $ landbridge wan ca rotate -root -wait`,
		setup: func(fs *flag.FlagSet) run {
			root := fs.Bool("root", false, "Replace the root of the federation.")
			inter := fs.Bool("intermediate", false, "Replace the issuing certificate of the datacenter.")
			servers := fs.Bool("servers", false, "Replace the certificates of the datacenter's servers.")
			wait := fs.Bool("wait", false, "With -root: return when all datacenters use the new root, and say which have not until then.")
			format := formatFlag(fs)
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				what := ""
				for _, f := range []struct {
					on   bool
					name string
				}{{*root, "root"}, {*inter, "intermediate"}, {*servers, "servers"}} {
					if f.on && what != "" {
						what = "several"
					} else if f.on {
						what = f.name
					}
				}
				if what == "" || what == "several" {
					return usagef("Exactly one of -root, -intermediate and -servers must be given.")
				}
				if *wait && !*root {
					return usagef("-wait needs -root: the others are done within seconds.")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				var out client.CARotation
				if err := cl.Put(c.ctx, caStatusPath+"/rotate", nil, map[string]string{"What": what}, &out); err != nil {
					return failf("Error replacing certificates: %w", err)
				}
				if *wait {
					if err := c.awaitRoot(cl, &out); err != nil {
						return err
					}
				}
				if *format == "json" {
					return c.printJSON(out)
				}
				switch {
				case *root && *wait:
					c.printf("All datacenters use the new root %s.\n", printable(out.Root))
				case *root:
					c.printf("The federation has the new root %s; \"landbridge wan ca status\" in datacenter %s shows who still uses the one before.\n", printable(out.Root), printable(out.Datacenter))
				default:
					c.printf("Certificates of datacenter %s are being replaced.\n", printable(out.Datacenter))
				}
				return nil
			}
		},
	}
}

// awaitRoot looks at the primary until only the new root is trusted there.
func (c *call) awaitRoot(cl *client.Client, r *client.CARotation) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	said := ""
	for {
		var st client.CAStatus
		err := cl.Get(c.ctx, caStatusPath, map[string][]string{"dc": {r.Datacenter}}, &st)
		var waiting []string
		if err == nil && len(st.Roots) > 0 && st.Roots[0].ID == r.Root {
			replaced := 0
			for _, x := range st.Roots {
				if x.State == "replaced" {
					replaced++
				}
			}
			if replaced == 0 {
				return nil
			}
			for _, d := range st.Datacenters {
				if !d.Done {
					waiting = append(waiting, printable(d.Name))
				}
			}
		}
		if now := strings.Join(waiting, ", "); now != "" && now != said {
			said = now
			fmt.Fprintf(c.Stderr, "waiting for %s\n", now)
		}
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return failf("The new root %s is in force, and this command did not wait for all: %w", r.Root, context.Cause(c.ctx))
		}
	}
}

func wanCAPrune() *command {
	return &command{
		name:     "wan ca prune",
		synopsis: "Stop trusting replaced roots although somebody uses them",
		help: `
Ends the rotation of a root at once: the root before is trusted no longer, and
open connections below it are closed. For a root whose key fell into other
hands. The datacenters that still use it ("landbridge wan ca status") are cut off
and have to join again.

    $ landbridge wan ca rotate -root
    $ landbridge wan ca prune -yes`,
		setup: func(fs *flag.FlagSet) run {
			yes := fs.Bool("yes", false, "Do it.")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if !*yes {
					return usagef("Datacenters that still use a replaced root are cut off by this: say -yes.")
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				if err := cl.Put(c.ctx, caStatusPath+"/rotate", nil, map[string]string{"What": "prune"}, nil); err != nil {
					return failf("Error dropping replaced roots: %w", err)
				}
				c.println("Only the current root is trusted.")
				return nil
			}
		},
	}
}
