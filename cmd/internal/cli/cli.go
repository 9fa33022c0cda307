package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"landbridge/cmd/internal/nearest"
)

// Name is what the program is called in its own words, whatever name it was
// started by: a link named consul behaves the same.
const Name = "landbridge"

// notFound is the exit code for no command and for an unknown one, as a shell's.
const notFound = 127

// System is the environment of the real process.
func System() Env {
	e := Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
	e.Color = isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("CONSUL_CLI_NO_COLOR") == "" &&
		os.Getenv("LANDBRIDGE_CLI_NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return e
}

// Main runs the command that args name, without the program's own name, and
// returns the exit code. Canceling ctx stops a command that waits.
func Main(ctx context.Context, args []string, env Env) int {
	t := newTable()
	words := 0
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++
	}
	if words == 0 {
		var first string
		if len(args) > 0 {
			first = strings.TrimPrefix(strings.TrimPrefix(args[0], "-"), "-")
		}
		switch first {
		case "version", "v":
			args, words = append([]string{"version"}, args[1:]...), 1
		case "help", "h":
			t.overview(env.Stdout)
			return 0
		case "":
			t.overview(env.Stderr)
			return notFound
		default:
			fmt.Fprintf(env.Stderr, "%s: unknown option %s\n\n", Name, args[0])
			t.overview(env.Stderr)
			return notFound
		}
	}
	if args[0] == "help" {
		return t.helpFor(args[1:], env)
	}
	cmd, used := t.find(args[:words])
	if cmd != nil {
		return t.execute(ctx, cmd, args[used:], env)
	}
	if g := t.group(args[:used]); g != nil {
		return t.runGroup(g, args[used:], env)
	}
	if why, ok := t.absent(args[0]); ok {
		fmt.Fprintf(env.Stderr, "%s %s: %s\n", Name, args[0], why)
		return 1
	}
	fmt.Fprintf(env.Stderr, "%s: unknown command %q.", Name, args[0])
	if near, ok := nearest.Word(args[0], t.words("")); ok {
		fmt.Fprintf(env.Stderr, " Did you mean %q?", near)
	}
	fmt.Fprint(env.Stderr, "\n\n")
	t.overview(env.Stderr)
	return notFound
}

// execute parses a command's arguments and runs it.
func (t *table) execute(ctx context.Context, cmd *command, args []string, env Env) int {
	fs := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	do := cmd.setup(fs)
	positional, err := cmd.parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		cmd.printHelp(env.Stdout)
		return 0
	case err != nil:
		text := err.Error()
		if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
			var names []string
			fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
			if near, ok := nearest.Word(name, names); ok {
				text += "; did you mean -" + near + "?"
			}
		}
		fmt.Fprintf(env.Stderr, "%s\n\n", text)
		cmd.printHelp(env.Stderr)
		return 1
	}
	err = do(&call{Env: env, ctx: ctx, cmd: cmd, args: positional})
	if err == nil {
		return 0
	}
	var ee *exitError
	if !errors.As(err, &ee) {
		ee = &exitError{code: 1, text: err.Error()}
	}
	if ee.text != "" {
		fmt.Fprintln(env.Stderr, strings.TrimSuffix(ee.text, "\n"))
	}
	if ee.usage {
		fmt.Fprintln(env.Stderr)
		cmd.printHelp(env.Stderr)
	}
	return ee.code
}

// runGroup answers a group's name, alone or with a word that is none of its
// commands.
func (t *table) runGroup(g *group, args []string, env Env) int {
	out, code := env.Stderr, 1
	if len(args) > 0 {
		if args[0] == "help" { // as `landbridge help GROUP ...` is
			return t.helpFor(append(strings.Fields(g.name), args[1:]...), env)
		}
		if slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			out, code = env.Stdout, 0
		} else if why, ok := t.absent(g.name + " " + args[0]); ok {
			fmt.Fprintf(env.Stderr, "%s %s %s: %s\n", Name, g.name, args[0], why)
			return 1
		} else if !strings.HasPrefix(args[0], "-") {
			fmt.Fprintf(env.Stderr, "%s %s: unknown command %q.", Name, g.name, args[0])
			if near, ok := nearest.Word(args[0], t.words(g.name)); ok {
				fmt.Fprintf(env.Stderr, " Did you mean %q?", near)
			}
			fmt.Fprint(env.Stderr, "\n\n")
		}
	}
	t.printGroup(g, out)
	return code
}

func (t *table) helpFor(words []string, env Env) int {
	if len(words) == 0 {
		t.overview(env.Stdout)
		return 0
	}
	if cmd, used := t.find(words); cmd != nil && used == len(words) {
		cmd.printHelp(env.Stdout)
		return 0
	}
	if g := t.group(words); g != nil {
		t.printGroup(g, env.Stdout)
		return 0
	}
	fmt.Fprintf(env.Stderr, "%s: there is no command %q.\n\n", Name, strings.Join(words, " "))
	t.overview(env.Stderr)
	return notFound
}
