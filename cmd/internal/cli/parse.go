package cli

import (
	"flag"
	"strings"
)

// parse takes args apart: flags anywhere, everything else in order. After "--",
// and within the command line of a program, nothing is a flag.
func (cmd *command) parse(fs *flag.FlagSet, args []string) (positional []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		rest := fs.Args()
		if len(rest) == 0 {
			return positional, nil
		}
		if used := len(args) - len(rest); cmd.program || used > 0 && args[used-1] == "--" {
			return append(positional, rest...), nil
		}
		positional, args = append(positional, rest[0]), rest[1:]
		for cmd.dashArgs && len(args) > 0 && !knownFlag(fs, args[0]) && args[0] != "--" {
			positional, args = append(positional, args[0]), args[1:]
		}
	}
}

// knownFlag says whether s is a flag of fs, or asks for help.
func knownFlag(fs *flag.FlagSet, s string) bool {
	if len(s) < 2 || s[0] != '-' {
		return false
	}
	name := strings.TrimPrefix(s[1:], "-")
	name, _, _ = strings.Cut(name, "=")
	return name == "h" || name == "help" || fs.Lookup(name) != nil
}
