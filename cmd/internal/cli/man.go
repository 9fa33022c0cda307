package cli

import (
	"bytes"
	"flag"
	"fmt"
	"strings"
)

// ManPages returns the manual pages, by file name: landbridge(1) lists the commands,
// and each command has one of its own, made from the texts that -h prints.
func ManPages() map[string][]byte {
	t := newTable()
	pages := map[string][]byte{Name + ".1": t.man()}
	for _, cmd := range t.commands {
		pages[manName(cmd.name)+".1"] = cmd.man()
	}
	return pages
}

func manName(command string) string { return Name + "-" + strings.ReplaceAll(command, " ", "-") }

// roff makes text safe: a backslash, and the hyphens of options, which roff would set
// as another character.
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func manHead(b *bytes.Buffer, name, synopsis string) {
	fmt.Fprintf(b, ".TH %q 1 \"\" \"%s %s\" \"landbridge\"\n", strings.ToUpper(name), Name, Release)
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", roff(name), roff(synopsis))
}

// manText sets help: paragraphs as they are, what is indented without filling.
func manText(b *bytes.Buffer, help string) {
	literal := false
	for line := range strings.SplitSeq(strings.Trim(help, "\n"), "\n") {
		switch indented := strings.HasPrefix(line, "  "); {
		case line == "":
			if !literal {
				b.WriteString(".PP\n")
			} else {
				b.WriteString("\n")
			}
			continue
		case indented && !literal:
			b.WriteString(".RS 4\n.nf\n")
			literal = true
		case !indented && literal:
			b.WriteString(".fi\n.RE\n.PP\n")
			literal = false
		}
		b.WriteString(roff(strings.TrimPrefix(line, "    ")) + "\n")
	}
	if literal {
		b.WriteString(".fi\n.RE\n")
	}
}

func (cmd *command) man() []byte {
	var b bytes.Buffer
	manHead(&b, manName(cmd.name), cmd.synopsis)
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(cmd.usage()))
	b.WriteString(".SH DESCRIPTION\n")
	manText(&b, cmd.help)
	own, shared := cmd.flags()
	for _, part := range []struct {
		title string
		flags []*flag.Flag
	}{{"OPTIONS", own}, {"OPTIONS OF ALL COMMANDS THAT ASK AN AGENT", shared}} {
		if len(part.flags) == 0 {
			continue
		}
		fmt.Fprintf(&b, ".SH %s\n", part.title)
		for _, f := range part.flags {
			head, text, _ := strings.Cut(strings.TrimSpace(flagHelp(f)), "\n")
			fmt.Fprintf(&b, ".TP\n.B %s\n", roff(head))
			for line := range strings.Lines(text) {
				b.WriteString(roff(strings.TrimSpace(line)) + "\n")
			}
		}
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", Name)
	return b.Bytes()
}

func (t *table) man() []byte {
	var b bytes.Buffer
	manHead(&b, Name, "joins datacenters: service discovery and federation")
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n[\\-version] [\\-help] COMMAND [OPTIONS] [ARGUMENTS]\n", Name)
	b.WriteString(".SH DESCRIPTION\nOne binary that is the agent, server or client, and the command line that asks it.\n.SH COMMANDS\n")
	for _, cmd := range t.commands {
		fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s.\n", roff(manName(cmd.name)), roff(cmd.synopsis))
	}
	b.WriteString(".SH FILES\n.TP\n.I /etc/landbridge\nConfiguration of\n.BR landbridge.service .\n" +
		".TP\n.I /etc/landbridge/REGION.d\nConfiguration of\n.BR landbridge@REGION.service .\n" +
		".TP\n.I /usr/share/doc/landbridge\nEvery key of the configuration, and how to operate landbridge.\n")
	return b.Bytes()
}
