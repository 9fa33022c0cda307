package cli

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// overview prints the list of commands.
func (t *table) overview(w io.Writer) {
	fmt.Fprintf(w, "Usage: %s [-version] [-help] COMMAND [OPTIONS] [ARGUMENTS]\n\nCommands:\n", Name)
	tw := tabwriter.NewWriter(w, 0, 0, 4, ' ', 0)
	for _, word := range t.words("") {
		fmt.Fprintf(tw, "    %s\t%s\n", word, t.synopsis(word))
	}
	tw.Flush()
	fmt.Fprintf(w, "\n`%s help COMMAND` tells more, with examples.\n", Name)
}

func (t *table) printGroup(g *group, w io.Writer) {
	fmt.Fprintf(w, "Usage: %s %s COMMAND [OPTIONS] [ARGUMENTS]\n\n%s\n\nCommands:\n", Name, g.name, indentText(g.help))
	tw := tabwriter.NewWriter(w, 0, 0, 4, ' ', 0)
	for _, word := range t.words(g.name) {
		fmt.Fprintf(tw, "    %s\t%s\n", word, t.synopsis(g.name+" "+word))
	}
	tw.Flush()
}

func (cmd *command) usage() string {
	s := Name + " " + cmd.name + " [OPTIONS]"
	if cmd.args != "" {
		s += " " + cmd.args
	}
	return s
}

// printHelp prints a command's help, with the flags that all commands of the
// API share in a section of their own.
func (cmd *command) printHelp(w io.Writer) {
	fmt.Fprintf(w, "Usage: %s\n\n%s\n", cmd.usage(), indentText(cmd.help))
	own, shared := cmd.flags()
	for _, part := range []struct {
		title string
		flags []*flag.Flag
	}{{"Options", own}, {"Options of all commands that ask an agent", shared}} {
		if len(part.flags) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n", part.title)
		for _, f := range part.flags {
			fmt.Fprint(w, "\n", flagHelp(f))
		}
	}
}

// flags lists a command's flags by name: its own, and those of the API client.
func (cmd *command) flags() (own, shared []*flag.Flag) {
	fs := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	cmd.setup(fs)
	api := flag.NewFlagSet("", flag.ContinueOnError)
	addAPI(api)
	hasAPI := fs.Lookup("http-addr") != nil
	fs.VisitAll(func(f *flag.Flag) {
		if hasAPI && api.Lookup(f.Name) != nil {
			shared = append(shared, f)
		} else {
			own = append(own, f)
		}
	})
	return own, shared
}

func flagHelp(f *flag.Flag) string {
	name, usage := flag.UnquoteUsage(f)
	// A value's name that ends the sentence, after its full stop, is only a name.
	usage = strings.TrimSuffix(usage, " "+name)
	head := "  -" + f.Name
	if name != "" && !isBool(f) {
		head += "=" + name
	}
	if list, ok := f.Value.(interface{ Choices() []string }); ok {
		head = "  -" + f.Name + "=" + strings.Join(list.Choices(), "|")
	}
	if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" {
		usage = strings.TrimSuffix(usage, ".") + " (default " + d + ")."
	}
	return head + "\n" + wrap(usage, "      ", 78)
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// wrap breaks text into lines of at most width, each after indent.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && line != indent {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}

// indentText indents help by two blanks; its own indentation stays.
func indentText(s string) string {
	list := strings.Split(strings.Trim(s, "\n"), "\n")
	for i, l := range list {
		if l != "" {
			list[i] = "  " + l
		}
	}
	return strings.Join(list, "\n")
}
