package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	shortestDuration = 10 * time.Second
	shortestInterval = 5 * time.Second
)

// debugTargets are what can be captured.
var debugTargets = []string{"agent", "host", "members", "metrics", "logs", "pprof", "cluster"}

func debugCommand() *command {
	return &command{
		name:     "debug",
		synopsis: "Record what an agent does, in one archive",
		help: `
Records for a while what the asked agent does, and packs it for those who are to
find out what is wrong: its settings and figures, the machine, the members, its
log at level debug, metrics at each interval, and profiles if the agent runs with
enable_debug. Ctrl-C ends the recording early and keeps what there is.

The archive holds no tokens and no keys, but names and addresses: have a look
before you pass it on, or leave things out by -capture.

    $ landbridge debug
    $ landbridge debug -duration=30s -interval=10s -output=/tmp/slow-web
    $ landbridge debug -capture=agent -capture=logs -since=1h -duration=10s`,
		setup: func(fs *flag.FlagSet) run {
			o := debugOptions{}
			fs.BoolVar(&o.archive, "archive", true, "Pack what was recorded into one file; with -archive=false it stays in a directory.")
			fs.Var(&o.targets, "capture", "What to record: "+strings.Join(debugTargets, ", ")+"; may be repeated, or be a list with commas (default: all). `WHAT`")
			fs.DurationVar(&o.duration, "duration", 5*time.Minute, "How long to record, at least 10s. `DURATION`")
			fs.DurationVar(&o.interval, "interval", 30*time.Second, "How often to take metrics and profiles, at least every 5s. `DURATION`")
			fs.StringVar(&o.output, "output", "", "Path of the archive, without .tar.gz (default: landbridge-debug-TIME here). `PATH`")
			fs.DurationVar(&o.since, "since", 0, "Add what was logged before, so far back: from the agent's log files, or from this machine's journal. `DURATION`")
			api := addAPI(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				if err := o.check(time.Now()); err != nil {
					return failf("Capture validation failed: %w", err)
				}
				cl, err := api.client(c)
				if err != nil {
					return err
				}
				ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
				defer stop()
				return c.debug(ctx, &recording{debugOptions: o, call: c, cl: cl})
			}
		},
	}
}

type debugOptions struct {
	archive            bool
	targets            lines
	duration, interval time.Duration
	output             string
	since              time.Duration
}

// check completes the options, and reports all that is wrong with them.
func (o *debugOptions) check(now time.Time) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.duration < shortestDuration {
		bad("duration must be longer than %s", shortestDuration)
	}
	if o.interval < shortestInterval {
		bad("interval must be longer than %s", shortestInterval)
	}
	if o.interval > o.duration && o.duration >= shortestDuration {
		o.interval = o.duration // one time is enough
	}
	if o.since < 0 {
		bad("since must not be negative")
	}
	var targets lines
	for _, t := range o.targets {
		for name := range strings.SplitSeq(t, ",") {
			if name = strings.TrimSpace(name); slices.Contains(debugTargets, name) {
				targets = append(targets, name)
			} else {
				bad("unknown capture target %q; there are %s", name, strings.Join(debugTargets, ", "))
			}
		}
	}
	if o.targets = targets; len(targets) == 0 {
		o.targets = slices.Clone(debugTargets)
	}
	slices.Sort(o.targets)
	o.targets = slices.Compact(o.targets)
	if o.output == "" {
		o.output = "landbridge-debug-" + now.UTC().Format("2006-01-02T15-04-05Z")
	}
	o.output = filepath.Clean(o.output)
	for _, p := range []string{o.output, o.output + ".tar.gz"} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			bad("output %s is already there", p)
			break
		}
	}
	return errors.Join(errs...)
}

// debug records into a directory and packs it.
func (c *call) debug(ctx context.Context, r *recording) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	c.println("==> Starting debugger and capturing static information...")
	shown := r.output
	if r.archive {
		shown += ".tar.gz"
	}
	for _, line := range [][2]string{
		{"Agent Version", r.agentVersion}, {"Interval", r.interval.String()}, {"Duration", r.duration.String()},
		{"Output", shown}, {"Capture", strings.Join(r.targets, ", ")},
	} {
		c.printf("%18s: '%s'\n", line[0], printable(line[1]))
	}
	r.static(ctx)
	r.dynamic(ctx)
	if err := r.index(); err != nil {
		return failf("Error writing the index: %w", err)
	}
	if ctx.Err() != nil {
		c.println("==> Ended early; what was captured is kept")
	}
	if !r.archive {
		c.println("==> Saved debug directory: " + r.output)
		return nil
	}
	if err := pack(r.output, r.output+".tar.gz"); err != nil {
		return failf("Archive creation failed, the files are in %s: %w", r.output, err)
	}
	c.println("==> Saved debug archive: " + r.output + ".tar.gz")
	return nil
}

// pack puts a directory into an archive, under its own name, and removes it.
func pack(dir, to string) (err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(to)
			return
		}
		err = os.RemoveAll(dir)
	}()
	zw := gzip.NewWriter(f)
	tw := tar.NewWriter(zw)
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return packOne(tw, p, path.Join(filepath.Base(dir), filepath.ToSlash(rel)), d)
	})
	return errors.Join(err, tw.Close(), zw.Close())
}

func packOne(tw *tar.Writer, file, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: 0o600, ModTime: info.ModTime(), Size: info.Size(), Typeflag: tar.TypeReg}
	if d.IsDir() {
		h.Name, h.Mode, h.Size, h.Typeflag = name+"/", 0o700, 0, tar.TypeDir
	}
	if err := tw.WriteHeader(h); err != nil || d.IsDir() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(tw, f, info.Size())
	return err
}
