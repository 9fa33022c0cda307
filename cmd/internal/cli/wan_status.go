package cli

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"landbridge/federation"
)

func wanStatus() *command {
	return &command{
		name:     "wan status",
		synopsis: "Show which datacenters reach each other, and how well",
		help: `
Asks every server of the federation how it reaches the others, and shows it as a
matrix: from the datacenter of the line to that of the column. A cell says how
many of the links between their servers answer, unless all do; the round trip
(median); the loss of the packets sent, if it is 1% or more; and

    via NAME there is no direct path, and that server carries the calls
    DOWN     no server there answers any of this datacenter's
    ASYM     one direction works, or loses less, and the other does not
    BREAKER  calls are refused at once, for the reason behind it
    ?        no server of this datacenter told within 4 seconds

What is wrong follows in words, with its last contact: servers that did not tell,
links that do not answer, certificates about to expire.

    $ landbridge wan status

Each server with its links, and when its certificate expires:

    $ landbridge wan status -detailed

Exits with 2 if something is wrong, so that a script can ask:

    $ landbridge wan status >/dev/null || echo "look at the WAN"`,
		setup: wanStatusSetup,
	}
}

func wanStatusSetup(fs *flag.FlagSet) run {
	detailed := fs.Bool("detailed", false, "Show the links of each server.")
	format := formatFlag(fs)
	api := addAPI(fs)
	return func(c *call) error {
		cl, err := api.noArgs(c)
		if err != nil {
			return err
		}
		var st federation.Status
		if err := cl.Get(c.ctx, "/v1/internal/federation", nil, &st); err != nil {
			return failf("Error asking for the status of the federation: %w", err)
		}
		slices.SortFunc(st.Datacenters, func(a, b federation.DatacenterStatus) int { return cmp.Compare(a.Name, b.Name) })
		wrong := wanProblems(&st)
		if *format == "json" {
			if err := c.printJSON(&st); err != nil {
				return err
			}
		} else {
			c.printStatus(&st, *detailed, wrong)
		}
		if len(wrong) > 0 { // what is wrong has been said
			return exit(2)
		}
		return nil
	}
}

func (c *call) printStatus(st *federation.Status, detailed bool, wrong []string) {
	servers := 0
	for _, dc := range st.Datacenters {
		servers += len(dc.Servers)
	}
	c.printf("Federation %s, primary %s, %d datacenters, %d servers; asked %s\n\n",
		printable(cmp.Or(st.FederationID, "(not known)")), printable(cmp.Or(st.Primary, "(undecided)")), len(st.Datacenters), servers, printable(st.Server))
	if len(st.Datacenters) < 2 {
		c.println("No other datacenter is joined (landbridge wan join).")
	} else {
		c.printMatrix(st)
	}
	if detailed {
		c.println()
		c.printLinks(st)
	}
	if len(wrong) == 0 {
		return
	}
	c.println("\nWhat is wrong:")
	for _, w := range wrong {
		c.printf("  %s\n", c.paint(red, printable(w)))
	}
}

func (c *call) printMatrix(st *federation.Status) {
	head := []string{"From \\ To"}
	cells := map[[2]string]string{}
	for _, p := range st.Matrix {
		cells[[2]string{p.From, p.To}] = pairText(&p, st.At)
	}
	rows := [][]string{nil}
	for _, from := range st.Datacenters {
		head = append(head, printable(from.Name))
		row := []string{printable(from.Name)}
		for _, to := range st.Datacenters {
			row = append(row, cmp.Or(cells[[2]string{from.Name, to.Name}], "-"))
		}
		rows = append(rows, row)
	}
	rows[0] = head
	columns(c.Stdout, rows, func(row, col int, s string) string {
		switch {
		case row == 0 || col == 0 || s == "-":
			return s
		case strings.ContainsAny(s, "?/") || strings.Contains(s, "DOWN") || strings.Contains(s, "ASYM") || strings.Contains(s, "BREAKER"):
			return c.paint(red, s)
		}
		return c.paint(green, s)
	})
}

// pairText is a cell of the matrix.
func pairText(p *federation.Pair, now time.Time) string {
	if p.Unknown {
		return "?"
	}
	if p.Links == 0 {
		return "no links"
	}
	var parts []string
	switch {
	case p.Reachable == 0:
		parts = append(parts, "DOWN "+sinceText(p.LastContact, now))
	case p.Reachable < p.Links:
		parts = append(parts, fmt.Sprintf("%d/%d", p.Reachable, p.Links))
	}
	if p.Reachable > 0 && p.RTT > 0 {
		parts = append(parts, rttText(p.RTT))
	}
	if p.Reachable > 0 && p.Loss != nil && *p.Loss >= 0.01 {
		parts = append(parts, lossText(p.Loss)+" loss")
	}
	if len(p.Via) > 0 {
		parts = append(parts, "via "+printable(strings.Join(p.Via, ", ")))
	}
	if p.Asymmetric {
		parts = append(parts, "ASYM")
	}
	if p.Breaker != "" {
		parts = append(parts, "BREAKER "+printable(p.Breaker))
	}
	if len(parts) == 0 {
		return "ok"
	}
	return strings.Join(parts, " ")
}

func (c *call) printLinks(st *federation.Status) {
	rows := [][]string{{"From", "To", "State", "RTT", "Loss", "Last contact", "Gossip", "Certificate"}}
	for _, r := range st.Rows {
		expires := "-"
		if !r.CertExpires.IsZero() {
			expires = "in " + longText(r.CertExpires.Sub(st.At))
		}
		if len(r.Links) == 0 {
			rows = append(rows, []string{printable(r.Server), "-", "-", "-", "-", "-", "-", expires})
		}
		for _, l := range r.Links {
			state := "ok"
			if !l.Reachable {
				state = "DOWN"
			}
			if l.Asymmetric {
				state += " ASYM"
			}
			if l.Via != "" {
				state += " via " + printable(l.Via)
			}
			rtt := "-"
			if l.RTT > 0 {
				rtt = rttText(l.RTT)
			}
			contact := "never"
			if !l.LastContact.IsZero() {
				contact = sinceText(l.LastContact, st.At) + " ago"
			}
			rows = append(rows, []string{printable(r.Server), printable(l.To), state, rtt, lossText(l.Loss), contact, printable(l.Gossip), expires})
		}
	}
	columns(c.Stdout, rows, func(row, col int, s string) string {
		switch {
		case row == 0 || col != 2:
			return s
		case s == "ok" || strings.HasPrefix(s, "ok via "):
			return c.paint(green, s)
		}
		return c.paint(red, s)
	})
}

// When an expiry is told of: an operator's certificate needs somebody to replace it,
// those of the built-in authority renew themselves long before their last day.
const (
	operatorSoon = 30 * 24 * time.Hour
	builtInSoon  = 24 * time.Hour
)

// wanProblems says in words what is wrong.
func wanProblems(st *federation.Status) []string {
	var list []string
	for _, m := range st.Missing {
		who := m.Server
		if who == "" {
			who = "all servers of " + m.Datacenter
		}
		list = append(list, fmt.Sprintf("%s: no status: %s", who, m.Error))
	}
	for _, p := range st.Matrix {
		if p.Unknown {
			continue
		}
		if p.Reachable < p.Links {
			text := fmt.Sprintf("%s -> %s: %d of %d links answer", p.From, p.To, p.Reachable, p.Links)
			if p.LastContact.IsZero() {
				text += ", nothing ever arrived"
			} else if p.Reachable == 0 {
				text += ", last contact " + sinceText(p.LastContact, st.At) + " ago"
			}
			list = append(list, text)
			list = append(list, silentLinks(st, p)...)
		}
		if p.Asymmetric {
			list = append(list, fmt.Sprintf("%s -> %s: the two directions differ (see -detailed)", p.From, p.To))
		}
		if p.Breaker != "" {
			list = append(list, fmt.Sprintf("%s -> %s: calls are refused at once: %s", p.From, p.To, p.Breaker))
		}
	}
	for _, r := range st.Rows {
		soon := builtInSoon
		if st.Certificates == "operator" {
			soon = operatorSoon
		}
		if left := r.CertExpires.Sub(st.At); !r.CertExpires.IsZero() && left < soon {
			list = append(list, fmt.Sprintf("%s: its certificate expires in %s", r.Server, longText(left)))
		}
	}
	return list
}

// silentLinks names the servers that do not answer, each with the last error.
func silentLinks(st *federation.Status, p federation.Pair) []string {
	errs := map[string]string{}
	count := map[string]int{}
	for _, r := range st.Rows {
		for _, l := range r.Links {
			if r.Datacenter == p.From && l.Datacenter == p.To && !l.Reachable {
				errs[l.To] = cmp.Or(l.Error, "gossip calls it "+l.Gossip)
				if l.OneWay {
					errs[l.To] = "packets arrive from it and do not get there"
				}
				count[l.To]++
			}
		}
	}
	names := make([]string, 0, len(errs))
	for name := range errs {
		names = append(names, name)
	}
	slices.Sort(names)
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = fmt.Sprintf("  %s does not answer %d of them: %s", name, count[name], errs[name])
	}
	return list
}

func rttText(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Microsecond).String()
}

func lossText(loss *float64) string {
	if loss == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100**loss)
}

func sinceText(at, now time.Time) string {
	if at.IsZero() {
		return "(never heard)"
	}
	return longText(max(now.Sub(at), 0))
}

// longText is a duration in its largest unit: 34s, 12m, 5h, 3d.
func longText(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + longText(-d)
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
