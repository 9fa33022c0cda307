package cli

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"landbridge/cmd/internal/client"
	"landbridge/federation"
)

func topCommand() *command {
	return &command{
		name:     "top",
		synopsis: "Watch the federation: datacenters, leaders, distances and rates",
		help: `
Shows all datacenters as the asked agent sees them, again and again: how many
servers answer, who leads, round trip and loss from here, how much is written, what
is registered, how far access control is behind the primary's, and what is wrong;
below them the rates of the asked agent, with what this command asks. q or Ctrl-C
ends it.

    $ landbridge top
    $ landbridge top -interval=10s -http-addr=10.0.0.5:8500

Once, for a script; rates are those of one interval:

    $ landbridge top -once
    $ landbridge top -once -format=json

A narrow terminal shows fewer columns, a low one fewer datacenters, those with
troubles first. There is no color where the output is no terminal, or NO_COLOR is
set.`,
		setup: topSetup,
	}
}

func topSetup(fs *flag.FlagSet) run {
	interval := fs.Duration("interval", 2*time.Second, "Time between two looks, at least 100ms. `DURATION`")
	once := fs.Bool("once", false, "Look twice, print the difference, and end.")
	format := formatFlag(fs)
	api := addAPI(fs)
	return func(c *call) error {
		if *interval < 100*time.Millisecond {
			return usagef("-interval is %s: it must be at least 100ms", *interval)
		}
		cl, err := api.noArgs(c)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		before, err := topLook(ctx, cl)
		if err != nil {
			return failf("Error asking for the status of the federation: %w", err)
		}
		var screen *topScreen
		if f, ok := c.Stdout.(*os.File); ok && !*once && *format == "pretty" && isTerminal(f) {
			screen = openScreen(f, c.Stdin, stop)
			defer screen.close()
			screen.draw(c.Env, topView(before, nil))
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-screen.resized():
				screen.redraw(c.Env)
				continue
			case <-time.After(*interval):
			}
			now, err := topLook(ctx, cl)
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil && screen == nil:
				return failf("Error asking for the status of the federation: %w", err)
			case err != nil:
				screen.failed(c.Env, err)
				continue
			}
			v := topView(now, before)
			before = now
			switch {
			case *format == "json":
				if err := c.printJSON(v); err != nil {
					return err
				}
			case screen != nil:
				screen.draw(c.Env, v)
			default:
				io.WriteString(c.Stdout, v.text(c.Env, 0, 0))
			}
			if *once {
				return nil
			}
		}
	}
}

// topSample is one look. Fields that could not be had are nil.
type topSample struct {
	at      time.Time
	status  federation.Status
	dcs     map[string]*topDatacenter
	counted map[string]float64 // of the asked agent: sums of counters
}

type topDatacenter struct {
	leader string
	index  uint64 // of the leader's log
	usage  *client.Usage
	lag    *float64 // seconds behind the primary
	held   int
}

// topTogether bounds the datacenters that are asked at once.
const topTogether = 16

// topLook asks the agent, and every datacenter through it, for at most a few seconds.
func topLook(ctx context.Context, cl *client.Client) (*topSample, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s := &topSample{dcs: map[string]*topDatacenter{}}
	if err := cl.Get(ctx, "/v1/internal/federation", nil, &s.status); err != nil {
		return nil, err
	}
	s.at = time.Now()
	if counted, err := topCounters(ctx, cl); err == nil {
		s.counted = counted
	}
	places := make(chan struct{}, topTogether)
	var asking sync.WaitGroup
	for _, dc := range s.status.Datacenters {
		d := &topDatacenter{}
		s.dcs[dc.Name] = d
		asking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			d.look(ctx, cl, dc.Name)
		})
	}
	asking.Wait()
	return s, nil
}

// look fills in what the datacenter tells within two seconds.
func (d *topDatacenter) look(ctx context.Context, cl *client.Client, dc string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	q := url.Values{"dc": {dc}}
	var raft client.RaftConfiguration
	if cl.Get(ctx, "/v1/operator/raft/configuration", q, &raft) != nil {
		return
	}
	for _, s := range raft.Servers {
		if s.Leader {
			d.leader, d.index = s.Node, s.LastIndex
		}
	}
	var usage struct{ Usage map[string]client.Usage }
	if cl.Get(ctx, "/v1/operator/usage", q, &usage) == nil {
		if u, ok := usage.Usage[dc]; ok {
			d.usage = &u
		}
	}
	var st replicationDetail
	if cl.Get(ctx, replicationPath, q, &st) == nil && st.Enabled {
		d.lag, d.held = &st.LagSeconds, st.Held
	}
}

// topRates are the counters whose rates are shown, each the sum of its series.
var topRates = []struct{ name, title string }{
	{"landbridge_httpapi_requests_total", "HTTP requests"},
	{"landbridge_dnsapi_questions_total", "DNS questions"},
	{"landbridge_forwarding_remote_requests_total", "requests to other datacenters"},
	{"landbridge_httpapi_requests_limited_total", "refused by limits"},
}

// topCounters reads the agent's counters off its metrics.
func topCounters(ctx context.Context, cl *client.Client) (map[string]float64, error) {
	resp, err := cl.Do(ctx, http.MethodGet, "/v1/agent/metrics", url.Values{"format": {"prometheus"}}, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	sums := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 16<<20))
	for lines.Scan() {
		line := lines.Text()
		for _, r := range topRates {
			rest, ok := strings.CutPrefix(line, r.name)
			if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
				continue
			}
			if v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64); err == nil {
				sums[r.name] += v
			}
		}
	}
	return sums, lines.Err()
}

// TopView is what is shown, and what -format=json prints.
type TopView struct {
	At          time.Time
	Server      string // that gathered it
	Datacenter  string // its own
	Primary     string
	Datacenters []TopDatacenter
	// Rates of the asked agent, each a second, by counter; absent at the first look.
	Rates    map[string]float64 `json:",omitempty"`
	Problems []string
}

// TopDatacenter is a line. Pointers are nil for what is not known.
type TopDatacenter struct {
	Name             string
	Servers, Alive   int
	Leader           string
	RTTSeconds       float64  `json:",omitempty"`
	Loss             *float64 `json:",omitempty"`
	EntriesPerSecond *float64 `json:",omitempty"` // of the Raft log
	Nodes, Services  *int     `json:",omitempty"`
	LagSeconds       *float64 `json:",omitempty"` // of access control behind the primary
	State            string   // "ok", or what is wrong
}

// topView makes a view of a look; before is the look before it, nil for the first.
func topView(s, before *topSample) *TopView {
	st := &s.status
	v := &TopView{At: s.at, Server: st.Server, Datacenter: st.Datacenter, Primary: st.Primary, Problems: wanProblems(st)}
	took := 0.0
	if before != nil {
		took = s.at.Sub(before.at).Seconds()
	}
	if took > 0 && s.counted != nil && before.counted != nil {
		v.Rates = map[string]float64{}
		for _, r := range topRates {
			v.Rates[r.name] = max(s.counted[r.name]-before.counted[r.name], 0) / took
		}
	}
	for _, dc := range st.Datacenters {
		line := TopDatacenter{Name: dc.Name, Servers: len(dc.Servers), State: "ok"}
		for _, srv := range dc.Servers {
			if srv.Answering {
				line.Alive++
			}
		}
		d := s.dcs[dc.Name]
		line.Leader, line.LagSeconds = d.leader, d.lag
		if u := d.usage; u != nil {
			line.Nodes, line.Services = &u.Nodes, &u.Services
		}
		if took > 0 && before.dcs[dc.Name] != nil && d.index > 0 && before.dcs[dc.Name].index > 0 {
			rate := float64(max(d.index, before.dcs[dc.Name].index)-before.dcs[dc.Name].index) / took
			line.EntriesPerSecond = &rate
		}
		if line.Alive < line.Servers {
			line.State = fmt.Sprintf("%d of %d servers away", line.Servers-line.Alive, line.Servers)
		}
		if d.held > 0 {
			line.State = fmt.Sprintf("%d ACL deletions held", d.held)
		}
		if d.leader == "" {
			line.State = "no leader answers"
		}
		for _, p := range st.Matrix {
			if p.From == st.Datacenter && p.To == dc.Name {
				line.RTTSeconds, line.Loss = p.RTT, p.Loss
				if p.Reachable == 0 && p.Links > 0 {
					line.State = "DOWN"
				}
				if p.Breaker != "" {
					line.State = "BREAKER " + p.Breaker
				}
			}
		}
		v.Datacenters = append(v.Datacenters, line)
	}
	// Troubles first, so that a low terminal shows them.
	slices.SortFunc(v.Datacenters, func(a, b TopDatacenter) int {
		if (a.State == "ok") != (b.State == "ok") {
			if a.State == "ok" {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return v
}

// text is the view in at most so many columns and lines, each ended; 0 is no limit.
func (v *TopView) text(e Env, width, height int) string {
	none := func(ok bool, s string) string {
		if !ok {
			return "-"
		}
		return s
	}
	// The columns in the order they are dropped in, last first.
	rows := [][]string{{"Datacenter", "State", "Servers", "Leader", "RTT", "Loss", "Log/s", "Services", "Nodes", "ACL lag"}}
	for _, d := range v.Datacenters {
		name := d.Name
		if name == v.Primary {
			name += "*"
		}
		row := []string{printable(name), printable(d.State), fmt.Sprintf("%d/%d", d.Alive, d.Servers), printable(cmp.Or(d.Leader, "-")),
			none(d.RTTSeconds > 0, rttText(d.RTTSeconds)), lossText(d.Loss), "-", "-", "-", "-"}
		if d.EntriesPerSecond != nil {
			row[6] = fmt.Sprintf("%.1f", *d.EntriesPerSecond)
		}
		if d.Services != nil {
			row[7], row[8] = strconv.Itoa(*d.Services), strconv.Itoa(*d.Nodes)
		}
		if d.LagSeconds != nil {
			row[9] = time.Duration(*d.LagSeconds * float64(time.Second)).Round(time.Millisecond).String()
		}
		rows = append(rows, row)
	}
	head := fmt.Sprintf("landbridge top - %s - %d datacenters, primary %s; asked %s", v.At.Format(time.TimeOnly), len(v.Datacenters), cmp.Or(v.Primary, "(undecided)"), v.Server)
	foot := []string{}
	if v.Rates != nil {
		var parts []string
		for _, r := range topRates {
			parts = append(parts, fmt.Sprintf("%.1f %s", v.Rates[r.name], r.title))
		}
		foot = append(foot, "A second, at this agent: "+strings.Join(parts, ", "))
	}
	for _, p := range v.Problems {
		foot = append(foot, "! "+printable(p))
	}
	// Of the lines there is room for, the datacenters come first, then the rates.
	room := len(rows) + len(foot) + 3
	if height > 0 {
		room = max(height-1, 1)
	}
	body, above, more := rows, 2, 0
	if room < 6 {
		above = 1 // no blank line below the head
	}
	if len(body) > room-above {
		most := max(room-above-1, 1)
		body, more = body[:most], len(body)-most
	}
	var b strings.Builder
	lines := 0
	add := func(s, color string) {
		if lines < room {
			b.WriteString(e.paint(color, clip(s, width)) + "\n")
			lines++
		}
	}
	add(head, "")
	if above == 2 {
		add("", "")
	}
	var table strings.Builder
	columns(&table, fit(body, width), nil)
	for i, line := range strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n") {
		color := ""
		switch {
		case i == 0:
			color = dim
		case v.Datacenters[i-1].State != "ok":
			color = red
		}
		add(line, color)
	}
	if more > 0 {
		add(fmt.Sprintf("and %d more", more), "")
	}
	for i, line := range foot {
		if i == 0 {
			add("", "")
		}
		color := ""
		if strings.HasPrefix(line, "!") {
			color = red
		}
		add(line, color)
	}
	return b.String()
}

// fit drops columns from the right until the rows are narrow enough; one stays.
func fit(rows [][]string, width int) [][]string {
	for n := len(rows[0]); width > 0 && n > 1; n-- {
		total := 2 * (n - 1)
		for x := range n {
			w := 0
			for _, r := range rows {
				w = max(w, len([]rune(r[x])))
			}
			total += w
		}
		if total <= width {
			break
		}
		cut := make([][]string, len(rows))
		for y, r := range rows {
			cut[y] = r[:n-1]
		}
		rows = cut
	}
	return rows
}

// clip cuts a line to a width; 0 is any.
func clip(s string, width int) string {
	if r := []rune(s); width > 0 && len(r) > width {
		return string(r[:width])
	}
	return s
}
