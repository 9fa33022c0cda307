package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"landbridge/cmd/internal/client"
)

// recording is one run of the debug command. What cannot be captured is noted and
// left out: often it is what is wrong.
type recording struct {
	debugOptions
	*call
	cl *client.Client

	began        time.Time
	agentVersion string
	profiles     bool   // the agent offers them
	logFile      string // where the agent logs to, besides its standard output

	mu     sync.Mutex
	failed []string // what could not be captured, and why
}

// begin asks the agent what it is, and makes the directory.
func (r *recording) begin(ctx context.Context) error {
	var self struct {
		Config      struct{ Version string }
		DebugConfig struct {
			EnableDebug bool
			Logging     struct{ LogFilePath string }
		}
	}
	if err := r.cl.Get(ctx, "/v1/agent/self", nil, &self); err != nil {
		return failf("Capture validation failed: error querying target agent: %w; verify connectivity and agent address", err)
	}
	r.began = time.Now()
	r.agentVersion, r.profiles = self.Config.Version, self.DebugConfig.EnableDebug
	r.logFile = self.DebugConfig.Logging.LogFilePath
	if err := os.MkdirAll(r.output, 0o700); err != nil {
		return failf("Capture validation failed: error creating output directory: %w", err)
	}
	if r.wants("pprof") && !r.profiles {
		r.miss("pprof", errors.New("the agent runs without enable_debug"))
		r.targets = slices.DeleteFunc(r.targets, func(t string) bool { return t == "pprof" })
	}
	return nil
}

func (r *recording) wants(target string) bool { return slices.Contains(r.targets, target) }

// miss notes what could not be captured.
func (r *recording) miss(what string, err error) {
	text := fmt.Sprintf("%s: %v", what, err)
	fmt.Fprintf(r.Stderr, "Left out %s\n", printable(text))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, text)
}

func (r *recording) file(name ...string) string {
	return filepath.Join(append([]string{r.output}, name...)...)
}

// static captures what does not change much.
func (r *recording) static(ctx context.Context) {
	for _, s := range []struct {
		target, path, file string
		query              url.Values
	}{
		{"agent", "/v1/agent/self", "agent.json", nil},
		{"host", "/v1/agent/host", "host.json", nil},
		{"members", "/v1/agent/members", "members.json", nil},
		{"members", "/v1/agent/members", "members-wan.json", queryOf("wan", "1")},
		{"cluster", "/v1/operator/raft/configuration", "listpeers.json", url.Values{"stale": {""}}},
	} {
		if !r.wants(s.target) || ctx.Err() != nil {
			continue
		}
		if err := r.saveJSON(ctx, s.path, s.query, s.file); err != nil {
			r.miss(s.file, err)
		}
	}
	if r.wants("logs") && r.since > 0 {
		if err := r.earlierLogs(ctx); err != nil {
			r.miss("earlier logs", err)
		}
	}
}

func (r *recording) saveJSON(ctx context.Context, path string, query url.Values, name string) error {
	var v any
	if err := r.getJSON(ctx, path, query, &v); err != nil {
		return err
	}
	b, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.file(name), append(b, '\n'), 0o600)
}

// getJSON asks the agent, and hides what is secret in its answer.
func (r *recording) getJSON(ctx context.Context, path string, query url.Values, v *any) error {
	var raw []byte
	if err := r.cl.Get(ctx, path, query, &raw); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(r.hide(raw)))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	hideSecrets(*v, false)
	return nil
}

const hidden = "hidden"

// hide replaces the token of this command, wherever it stands.
func (r *recording) hide(b []byte) []byte {
	if t := r.cl.Token(); t != "" {
		return bytes.ReplaceAll(b, []byte(t), []byte(hidden))
	}
	return b
}

// secretNames end the names of members that are secret, in lower case and without
// underscores. Agents leave secrets out by themselves; this is for the day one
// does not.
var secretNames = []string{"token", "tokens", "secret", "secretid", "password", "encrypt", "encryptkey", "privatekey", "signingkey", "credentials"}

// hideSecrets replaces the strings in members with such names; all of them if
// under is set.
func hideSecrets(v any, under bool) {
	replace := func(e any, secret bool, set func(any)) {
		if s, ok := e.(string); ok && secret && s != "" {
			set(hidden)
			return
		}
		hideSecrets(e, secret)
	}
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			name := strings.ReplaceAll(strings.ToLower(k), "_", "")
			secret := under || slices.ContainsFunc(secretNames, func(s string) bool { return strings.HasSuffix(name, s) })
			replace(e, secret, func(to any) { x[k] = to })
		}
	case []any:
		for i, e := range x {
			replace(e, under, func(to any) { x[i] = to })
		}
	}
}

// dynamic captures until the duration is over or ctx ends.
func (r *recording) dynamic(ctx context.Context) {
	if !r.wants("logs") && !r.wants("metrics") && !r.wants("pprof") {
		return // nothing takes time
	}
	r.println("==> Capturing dynamic information for " + r.duration.String() + "...")
	ctx, cancel := context.WithTimeout(ctx, r.duration)
	defer cancel()
	var parts sync.WaitGroup
	defer parts.Wait()
	if r.wants("logs") {
		parts.Go(func() {
			if err := r.followLog(ctx); err != nil && ctx.Err() == nil {
				r.miss("landbridge.log", err)
			}
		})
	}
	if r.wants("metrics") {
		parts.Go(func() { r.each(ctx, r.metrics) })
	}
	if r.wants("pprof") {
		parts.Go(func() { r.each(ctx, r.profile) })
	}
	<-ctx.Done()
}

// each calls f at the start and at each interval.
func (r *recording) each(ctx context.Context, f func(ctx context.Context, n int)) {
	t := time.NewTicker(r.interval)
	defer t.Stop()
	for n := 0; ; n++ {
		f(ctx, n)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil { // the last tick and the end come together
			return
		}
	}
}

// metrics adds a line to metrics.json.
func (r *recording) metrics(ctx context.Context, _ int) {
	err := func() error {
		var v any
		if err := r.getJSON(ctx, "/v1/agent/metrics", nil, &v); err != nil {
			return err
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(r.file("metrics.json"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(append(b, '\n'))
		return errors.Join(err, f.Close())
	}()
	if err != nil && ctx.Err() == nil {
		r.miss("metrics.json", err)
	}
}

// profile takes the profiles of one interval. The processor's lasts nearly as
// long as the interval; a trace, which costs more and grows fast, is taken once.
func (r *recording) profile(ctx context.Context, n int) {
	left := r.interval
	if end, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(end))
	}
	seconds := strconv.Itoa(max(1, int((left-left/10)/time.Second)))
	dir := time.Now().UTC().Format("15-04-05Z")
	for _, p := range []struct {
		name, path string
		query      url.Values
	}{
		{"heap.prof", "heap", nil},
		{"goroutine.prof", "goroutine", nil},
		{"goroutines.txt", "goroutine", queryOf("debug", "2")},
		{"trace.out", "trace", queryOf("seconds", "1")},
		{"profile.prof", "profile", queryOf("seconds", seconds)},
	} {
		if p.path == "trace" && n > 0 {
			continue
		}
		if err := r.save(ctx, "/debug/pprof/"+p.path, p.query, r.file("pprof", dir, p.name)); err != nil && ctx.Err() == nil {
			r.miss(filepath.Join("pprof", dir, p.name), err)
		}
	}
}

// save writes an answer as it is. What ends before its time is no file.
func (r *recording) save(ctx context.Context, path string, query url.Values, file string) error {
	resp, err := r.cl.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(resp.Body, client.MaxAnswer))
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// followLog writes the agent's log at level debug.
func (r *recording) followLog(ctx context.Context) error {
	resp, err := r.cl.Do(ctx, http.MethodGet, "/v1/agent/monitor", queryOf("loglevel", "debug"), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.OpenFile(r.file("landbridge.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = r.copyLines(f, resp.Body)
	if err == nil {
		err = errors.New("the agent ended the log")
	}
	return errors.Join(err, f.Close())
}

// index writes what was captured and how.
func (r *recording) index() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := json.MarshalIndent(map[string]any{
		"Version": Release, "AgentVersion": r.agentVersion, "Interval": r.interval.String(), "Duration": r.duration.String(),
		"Targets": r.targets, "Began": r.began.UTC(), "Ended": time.Now().UTC(), "LeftOut": append([]string{}, r.failed...),
	}, "", "    ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.file("index.json"), append(b, '\n'), 0o600)
}
