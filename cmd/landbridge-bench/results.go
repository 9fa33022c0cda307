package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// results is what all runs of scenarios measured, and the form of the result file.
// Its methods may be called concurrently.
type results struct {
	Suite    string            `json:"suite"` // lan or wan
	Updated  time.Time         `json:"updated"`
	Host     map[string]string `json:"host"`     // the machine
	Settings map[string]string `json:"settings"` // of the last run
	Binaries []*binary         `json:"binaries"` // A and B
	Figures  []*figure         `json:"figures"`
	Notes    []note            `json:"notes,omitempty"`
	Failures []note            `json:"failures,omitempty"`

	suite *suite
	mu    sync.Mutex
}

// note is something that happened in one run of a scenario.
type note struct {
	Scenario string `json:"scenario"`
	Binary   string `json:"binary"` // its label
	Text     string `json:"text"`
}

func newResults(s *suite, o *options, host map[string]string) *results {
	settings := map[string]string{"rounds": fmt.Sprint(o.rounds), "quick": fmt.Sprint(o.quick), "nice": fmt.Sprint(o.nice)}
	if o.congestion != "" {
		settings["tcp_congestion_control"] = o.congestion
	}
	if o.conf != nil {
		settings["conf"] = fmt.Sprint(o.conf)
	}
	return &results{Suite: s.name, Host: host, Settings: settings, Binaries: o.binaries, suite: s}
}

// add records one sample of a figure for binary side (0 is A, 1 is B).
func (r *results) add(side int, f figure, sample float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.IndexFunc(r.Figures, func(x *figure) bool {
		return x.Scenario == f.Scenario && x.Case == f.Case && x.Name == f.Name
	})
	if at < 0 {
		at = len(r.Figures)
		r.Figures = append(r.Figures, &f)
	}
	samples := &r.Figures[at].A
	if side == 1 {
		samples = &r.Figures[at].B
	}
	*samples = append(*samples, sample)
}

func (r *results) addNote(to *[]note, scenario, label, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to = append(*to, note{scenario, label, text})
}

// load takes over what an earlier run wrote: all of it, or without add only the
// scenarios that are not run again. A file that does not exist holds nothing.
func (r *results) load(path string, again []scenario, add bool) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var old results
	if err := json.Unmarshal(data, &old); err != nil {
		return fmt.Errorf("%s: not a result file: %w", path, err)
	}
	same := func(a, b *binary) bool { return a.SHA256 == b.SHA256 && a.Label == b.Label }
	if old.Suite != r.Suite || !slices.EqualFunc(old.Binaries, r.Binaries, same) {
		return fmt.Errorf("%s holds figures of %s for other binaries or labels: name another file", path, old.Suite)
	}
	replaced := func(name string) bool {
		return !add && slices.ContainsFunc(again, func(s scenario) bool { return s.name == name })
	}
	r.Figures = slices.DeleteFunc(old.Figures, func(f *figure) bool { return replaced(f.Scenario) })
	r.Notes = slices.DeleteFunc(old.Notes, func(n note) bool { return replaced(n.Scenario) })
	r.Failures = slices.DeleteFunc(old.Failures, func(n note) bool { return replaced(n.Scenario) })
	return nil
}

// finish brings the figures into the suite's order and sums them up; r.mu is held.
func (r *results) finish() {
	order := map[string]int{}
	for i, s := range r.suite.scenarios {
		order[s.name] = i
	}
	slices.SortStableFunc(r.Figures, func(a, b *figure) int { return order[a.Scenario] - order[b.Scenario] })
	for _, f := range r.Figures {
		f.sum()
	}
}

// save writes the result file, as a whole or not at all.
func (r *results) save(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finish()
	r.Updated = time.Now().UTC().Truncate(time.Second)
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// writeTable writes all figures in Markdown, a table for each scenario.
func (r *results) writeTable(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finish()
	for i, b := range r.Binaries {
		fmt.Fprintf(w, "%c: %s, %s (%s, %.1f MiB)\n", 'A'+i, b.Label, b.Path, b.Version, float64(b.Bytes)/(1<<20))
	}
	for _, s := range r.suite.scenarios {
		r.writeScenario(w, s)
	}
	for _, part := range []struct {
		title string
		notes []note
	}{{"Notes", r.Notes}, {"Failed", r.Failures}} {
		if len(part.notes) > 0 {
			fmt.Fprintf(w, "\n%s:\n\n", part.title)
		}
		for _, n := range part.notes {
			fmt.Fprintf(w, "- %s %s: %s\n", n.Scenario, n.Binary, n.Text)
		}
	}
}

func (r *results) writeScenario(w io.Writer, s scenario) {
	last, two := "", len(r.Binaries) == 2
	for i, f := range slices.DeleteFunc(slices.Clone(r.Figures), func(f *figure) bool { return f.Scenario != s.name }) {
		if i == 0 {
			fmt.Fprintf(w, "\n### %s %s\n\n| case | figure | unit | %s |", s.name, s.title, r.Binaries[0].Label)
			rule := "\n|---|---|---|--:|"
			if two {
				fmt.Fprintf(w, " %s | B/A | better |", r.Binaries[1].Label)
				rule += "--:|--:|---|"
			}
			fmt.Fprintln(w, rule)
		}
		kase := f.Case
		if kase == last {
			kase = ""
		}
		last = f.Case
		fmt.Fprintf(w, "| %s | %s | %s | %s |", kase, f.Name, f.Unit, spread(f.A))
		if two {
			ratio, who := "-", ""
			if f.Ratio != nil {
				ratio = number(*f.Ratio)
			}
			if i := f.winner(); i >= 0 {
				who = r.Binaries[i].Label
			}
			fmt.Fprintf(w, " %s | %s | %s |", spread(f.B), ratio, who)
		}
		fmt.Fprintln(w)
	}
}
