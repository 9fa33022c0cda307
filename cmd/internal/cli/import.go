package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"landbridge/cmd/internal/client"
)

// incomplete is the exit code of import when something is not as the source has it.
const incomplete = 2

type importStep struct {
	name string
	run  func(*importer) error
}

// importParts are what is taken over, in this order: later ones name earlier ones.
var importParts = []importStep{
	{"keys", (*importer).keys},
	{"policies", (*importer).policies},
	{"roles", (*importer).roles},
	{"tokens", (*importer).tokens},
	{"auth-methods", (*importer).authMethods},
	{"binding-rules", (*importer).bindingRules},
	{"services", (*importer).services},
	{"queries", (*importer).queries},
	{"config", (*importer).configEntries},
}

func importCommand() *command {
	return &command{
		name:     "import",
		synopsis: "Take over the state of a running compatible datacenter",
		help: `
Copies what a datacenter of another, compatible cluster holds into the one of the
asked agent: keys, the catalog's external services (those that no agent
registers), policies, roles and tokens with their secrets, auth methods and their
binding rules, prepared queries, and configuration entries. What is here already
and equal is left alone, so the command may be run again and again; what differs
is left alone and reported, unless -overwrite says that the source is right.
Nothing is deleted.

First look, then do:

    $ landbridge import -from=http://10.0.9.1:8500 -dry-run
    $ landbridge import -from=http://10.0.9.1:8500 -from-token-file=source.token

The token for the source comes from -from-token-file or from the environment's
LANDBRIDGE_FROM_TOKEN; to see the secrets of tokens it needs acl:write there.
What agents register themselves comes with the agents; sessions, and locks held
by them, events and the outcome of checks that agents run do not come along.

Keys are kept in a temporary file without a name while they are copied (TMPDIR).

Exits with 0 if everything is here as the source has it, with 2 if something
differs or was refused, each told in a line, and with 1 if it could not go on.`,
		setup: importSetup,
	}
}

func importSetup(fs *flag.FlagSet) run {
	var src client.Options
	fs.StringVar(&src.Addr, "from", "", "An agent of the source: http(s)://HOST:PORT. `URL`")
	fs.StringVar(&src.TokenFile, "from-token-file", "", "File with the ACL token for the source. `FILE`")
	fs.StringVar(&src.CAFile, "from-ca-file", "", "Certificate authority to verify the source by. `FILE`")
	fs.StringVar(&src.Datacenter, "from-datacenter", "", "Datacenter of the source (default: that of its agent). `NAME`")
	prefix := fs.String("prefix", "", "Take over only keys that begin so. `PREFIX`")
	only := fs.String("only", "", "Take over only these, with commas between: keys, policies, roles, tokens, auth-methods, binding-rules, services, queries, config. `LIST`")
	dry := fs.Bool("dry-run", false, "Change nothing, say what would be done.")
	overwrite := fs.Bool("overwrite", false, "Write what differs, too.")
	format := formatFlag(fs)
	api := addAPI(fs)
	return func(c *call) error {
		if src.Addr == "" {
			return usagef("-from is required")
		}
		if u, err := url.Parse(src.Addr); err != nil || u.RawQuery != "" || u.User != nil {
			return failf("-from must be an address like http://10.0.9.1:8500; a token is given by -from-token-file or LANDBRIDGE_FROM_TOKEN")
		}
		parts, err := importSelection(*only)
		if err != nil {
			return err
		}
		if src.TokenFile == "" {
			src.Token = c.Getenv("LANDBRIDGE_FROM_TOKEN")
		}
		from, err := client.New(src)
		if err != nil {
			return failf("Error connecting to the source: %w", err)
		}
		to, err := api.noArgs(c)
		if err != nil {
			return err
		}
		im := &importer{c: c, from: from, to: to, dry: *dry, overwrite: *overwrite, prefix: *prefix, quiet: *format == "json"}
		if err := im.distinct(); err != nil {
			return err
		}
		for _, p := range importParts {
			if len(parts) > 0 && !slices.Contains(parts, p.name) {
				continue
			}
			im.begin(p.name)
			if err := p.run(im); err != nil {
				im.end()
				return failf("Error importing %s: %w", p.name, err)
			}
			im.end()
		}
		return im.report(*format)
	}
}

func importSelection(only string) ([]string, error) {
	if only == "" {
		return nil, nil
	}
	list := strings.Split(only, ",")
	for _, name := range list {
		if !slices.ContainsFunc(importParts, func(p importStep) bool { return p.name == name }) {
			return nil, usagef("-only=%s: there is no %q", only, name)
		}
	}
	return list, nil
}

// importer copies from one agent to another.
type importer struct {
	c         *call
	from, to  *client.Client
	dry       bool
	overwrite bool
	prefix    string
	quiet     bool // no words but the report

	parts []*ImportPart
	part  *ImportPart // that runs
	drawn time.Time
}

// ImportPart is what became of one kind of thing.
type ImportPart struct {
	Name    string
	Created int
	Updated int // only with -overwrite
	Same    int
	Differs int      // left as they are here
	Refused int      // by the destination, or not shown by the source
	Notes   []string `json:",omitempty"` // about what differs or was refused
}

// maxNotes bounds the notes of a part: the counts tell the rest.
const maxNotes = 50

func (p *ImportPart) note(format string, args ...any) {
	switch {
	case len(p.Notes) < maxNotes:
		p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
	case len(p.Notes) == maxNotes:
		p.Notes = append(p.Notes, "and more")
	}
}

func (p *ImportPart) done() int { return p.Created + p.Updated + p.Same + p.Differs + p.Refused }

// distinct refuses to copy an agent to itself.
func (im *importer) distinct() error {
	type self struct {
		Config struct{ NodeID, NodeName, Datacenter string }
	}
	var there, here self
	if err := im.get(im.from, "/v1/agent/self", &there); err != nil {
		return failf("Error asking the source: %w", err)
	}
	if err := im.get(im.to, "/v1/agent/self", &here); err != nil {
		return failf("Error asking the destination: %w", err)
	}
	if there.Config.NodeID != "" && there.Config.NodeID == here.Config.NodeID {
		return failf("the source and the destination are one agent, %s of %s", printable(here.Config.NodeName), printable(here.Config.Datacenter))
	}
	return nil
}

func (im *importer) begin(name string) {
	im.part = &ImportPart{Name: name}
	im.parts = append(im.parts, im.part)
}

// terminal is where the progress bar goes; nil: nowhere.
func (im *importer) terminal() io.Writer {
	if f, ok := im.c.Stderr.(*os.File); ok && !im.quiet && isTerminal(f) {
		return f
	}
	return nil
}

// progress draws the bar, at most ten times a second.
func (im *importer) progress(done, total int64) {
	w := im.terminal()
	if w == nil || total <= 0 || time.Since(im.drawn) < 100*time.Millisecond && done < total {
		return
	}
	im.drawn = time.Now()
	fmt.Fprint(w, "\r"+progressBar(im.part.Name, done, total, im.part.done()))
}

// progressBar is a line of at most 79 columns.
func progressBar(name string, done, total int64, count int) string {
	const width = 40
	share := min(float64(done)/float64(total), 1)
	n := int(width * share)
	return fmt.Sprintf("%-9s [%s%s] %3d%% %10d", name, strings.Repeat("=", n), strings.Repeat(" ", width-n), int(100*share), count)
}

func (im *importer) end() {
	if w := im.terminal(); w != nil && !im.drawn.IsZero() {
		fmt.Fprint(w, "\r\033[K")
		im.drawn = time.Time{}
	}
}

// importTimeout bounds one request, and importSpool the reading of all keys.
const (
	importTimeout = 2 * time.Minute
	importSpool   = time.Hour
)

// get is a read; out is left alone if there is no such thing, which is no error.
func (im *importer) get(cl *client.Client, path string, out any) error {
	ctx, cancel := context.WithTimeout(im.c.ctx, importTimeout)
	defer cancel()
	if err := cl.Get(ctx, path, nil, out); err != nil && !client.NotFound(err) {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// write writes to the destination, and waits when that says to come later.
func (im *importer) write(method, path string, query url.Values, body, out any) error {
	for try := 0; ; try++ {
		err := im.writeOnce(method, path, query, body, out)
		var status *client.StatusError
		if try == 9 || !errors.As(err, &status) || status.Code != http.StatusTooManyRequests && status.Code != http.StatusServiceUnavailable {
			return err
		}
		select {
		case <-im.c.ctx.Done():
			return im.c.ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (im *importer) writeOnce(method, path string, query url.Values, body, out any) error {
	ctx, cancel := context.WithTimeout(im.c.ctx, importTimeout)
	defer cancel()
	if method == http.MethodPost {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		resp, err := im.to.Do(ctx, method, path, query, strings.NewReader(string(data)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, client.MaxAnswer))
		return err
	}
	return im.to.Put(ctx, path, query, body, out)
}

// record is an object of the API.
type record = map[string]any

// pick copies the fields of r that say something.
func pick(r record, fields ...string) record {
	out := record{}
	for _, f := range fields {
		switch v := r[f].(type) {
		case nil:
		case string:
			if v != "" {
				out[f] = v
			}
		case []any:
			if len(v) > 0 {
				out[f] = v
			}
		case record:
			if len(v) > 0 {
				out[f] = v
			}
		case bool:
			if v {
				out[f] = v
			}
		default:
			out[f] = v
		}
	}
	return out
}

// text is a field that is a string; "" if it is not there.
func text(r record, field string) string {
	s, _ := r[field].(string)
	return s
}

// settle brings one thing to the destination: want is how it should be, have how it
// is, nil if it is not there. update is nil for what cannot be changed.
func (im *importer) settle(what string, want, have record, create, update func() error) error {
	p := im.part
	act, count := create, &p.Created
	switch {
	case have == nil:
	case reflect.DeepEqual(want, have):
		p.Same++
		return nil
	case update == nil || !im.overwrite:
		p.Differs++
		p.note("%s: is another one here (%s)", what, strings.Join(differing(want, have), ", "))
		return nil
	default:
		act, count = update, &p.Updated
	}
	if !im.dry {
		if err := act(); err != nil {
			return im.refused(what, err)
		}
	}
	*count++
	return nil
}

// differing names the fields, and no values: some are secrets.
func differing(a, b record) []string {
	var names []string
	for _, r := range []record{a, b} {
		for k := range r {
			if !reflect.DeepEqual(a[k], b[k]) && !slices.Contains(names, k) {
				names = append(names, k)
			}
		}
	}
	slices.Sort(names)
	return names
}

// refused counts what the destination refuses; what keeps it from answering at all is
// an error.
func (im *importer) refused(what string, err error) error {
	var status *client.StatusError
	if !errors.As(err, &status) {
		return fmt.Errorf("%s: %w", what, err)
	}
	im.part.Refused++
	im.part.note("%s: %s", what, status.Body)
	return nil
}

// report says what became of everything, and whether that is all.
func (im *importer) report(format string) error {
	bad := false
	for _, p := range im.parts {
		bad = bad || p.Differs > 0 || p.Refused > 0
	}
	if format == "json" {
		if err := im.c.printJSON(struct {
			DryRun   bool
			Complete bool
			Parts    []*ImportPart
		}{im.dry, !bad, im.parts}); err != nil {
			return err
		}
	} else {
		im.print()
	}
	if bad {
		return exit(incomplete)
	}
	return nil
}

func (im *importer) print() {
	head := []string{"", "New", "Updated", "Same", "Different", "Refused"}
	if im.dry {
		head[1], head[2] = "Would be new", "Would be updated"
	}
	rows := [][]string{head}
	for _, p := range im.parts {
		row := []string{p.Name}
		for _, n := range []int{p.Created, p.Updated, p.Same, p.Differs, p.Refused} {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, row)
	}
	columns(im.c.Stdout, rows, func(row, col int, s string) string {
		if row > 0 && col >= 4 && s != "0" {
			return im.c.paint(red, s)
		}
		return s
	})
	for _, p := range im.parts {
		for _, n := range p.Notes {
			im.c.printf("%s: %s\n", p.Name, printable(n))
		}
	}
}
