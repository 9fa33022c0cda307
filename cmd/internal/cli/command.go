package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Env is what a command sees of its process.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Color  bool // Stdout is a terminal, and nobody asked for none
}

// command describes one command; see the package comment.
type command struct {
	name     string // words, as typed: "kv get"
	args     string // positional arguments, for the usage line: "KEY [DATA]"
	synopsis string // one line, no full stop
	help     string // paragraphs; examples are indented by two blanks
	choices  []string
	// setup declares flags and returns what to run. It must have no other effect:
	// help and completion call it too.
	setup func(fs *flag.FlagSet) run
	// dashArgs makes what looks like an unknown flag, after a positional
	// argument, one more of those: values may begin with a dash.
	dashArgs bool
	// program says that the arguments are a program and its own: from the first one
	// that is no flag, nothing is ours.
	program bool
}

// group is a word that only begins commands.
type group struct {
	name     string
	synopsis string
	help     string
}

// run carries out a parsed command. A nil error is exit code 0.
type run func(c *call) error

// call is one invocation.
type call struct {
	Env
	ctx  context.Context
	cmd  *command
	args []string // positional
}

func (c *call) printf(format string, args ...any) { fmt.Fprintf(c.Stdout, format, args...) }

func (c *call) println(args ...any) { fmt.Fprintln(c.Stdout, args...) }

// exitError ends a command with a code. An empty text prints nothing: what
// there was to say has been said.
type exitError struct {
	code  int
	text  string
	usage bool // the command's help follows
	cause error
}

func (e *exitError) Error() string { return e.text }
func (e *exitError) Unwrap() error { return e.cause }

// failf is an error with a text for the user and exit code 1; %w keeps its cause.
func failf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &exitError{code: 1, text: err.Error(), cause: errors.Unwrap(err)}
}

// usagef is failf with the command's help below.
func usagef(format string, args ...any) error {
	return &exitError{code: 1, text: fmt.Sprintf(format, args...), usage: true}
}

// exit ends with a code and no words.
func exit(code int) error { return &exitError{code: code} }

// tooMany is the error for positional arguments beyond n.
func (c *call) atMost(n int) error {
	if len(c.args) <= n {
		return nil
	}
	if n == 0 {
		return usagef("Too many arguments (expected 0, got %d): %s", len(c.args), strings.Join(c.args, " "))
	}
	return usagef("Too many arguments (expected %d, got %d)", n, len(c.args))
}

// lines is a flag that may be repeated.
type lines []string

func (l *lines) String() string     { return strings.Join(*l, ",") }
func (l *lines) Set(s string) error { *l = append(*l, s); return nil }
func (l *lines) Repeats() bool      { return true }

// pairs is a repeatable flag of the form key=value.
type pairs map[string]string

func (p *pairs) String() string { return "" }
func (p *pairs) Repeats() bool  { return true }

func (p *pairs) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" {
		return fmt.Errorf("must be key=value")
	}
	if *p == nil {
		*p = pairs{}
	}
	(*p)[k] = v
	return nil
}

// choice is a flag with a closed set of values.
type choice struct {
	value   *string
	choices []string
}

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c *choice) Choices() []string { return c.choices }

func (c *choice) Set(s string) error {
	for _, v := range c.choices {
		if s == v {
			*c.value = s
			return nil
		}
	}
	return fmt.Errorf("must be one of %s", strings.Join(c.choices, ", "))
}

func choiceFlag(fs *flag.FlagSet, name, unset, usage string, choices ...string) *string {
	v := unset
	fs.Var(&choice{&v, choices}, name, usage)
	return &v
}

// formatFlag declares -format.
func formatFlag(fs *flag.FlagSet) *string {
	return choiceFlag(fs, "format", "pretty", "Output format: pretty for people, json for programs. `FORMAT`", "pretty", "json")
}
