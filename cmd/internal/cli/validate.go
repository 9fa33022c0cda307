package cli

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"landbridge/cmd/internal/config"
)

func validateCommand() *command {
	return &command{
		name:     "validate",
		args:     "FILE or DIR...",
		synopsis: "Check configuration files",
		help: `
Reads configuration files the way an agent would, and says everything that is
wrong with them: exit code 0 if an agent would start with them, else 1. Give the
data directory here if the agent gets it on its command line.

    $ landbridge validate /etc/landbridge
    $ landbridge validate -data-dir=/var/lib/landbridge /etc/landbridge
    $ landbridge validate -config-format=hcl base.conf extra.conf`,
		setup: func(fs *flag.FlagSet) run {
			l := &config.Loader{}
			l.AddFormatFlag(fs)
			l.AddKeyFlags(fs, "data-dir")
			quiet := fs.Bool("quiet", false, "Print nothing if all is well.")
			return func(c *call) error {
				if len(c.args) == 0 {
					return failf("Must specify at least one config file or directory")
				}
				l.Files, l.Credentials = c.args, readableCredentials(c.Getenv)
				cfg, warnings, err := l.Load()
				if err == nil {
					err = tryDefinitions(cfg)
				}
				for _, w := range warnings {
					if !*quiet || err != nil {
						fmt.Fprintf(c.Stderr, "Warning: %s\n", w)
					}
				}
				if err != nil {
					return failf("Config validation failed: %s", problems(err))
				}
				if !*quiet {
					c.println("Configuration is valid!")
				}
				return nil
			}
		},
	}
}

// readableCredentials is the directory of a service manager's secrets. systemd names
// it to ExecReload too, but shows it to the main process alone: what is in it is then
// left to the agent, which reads it before it takes anything over.
func readableCredentials(getenv func(string) string) string {
	dir := getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
		return ""
	}
	return dir
}

// problems prints what config.Load complains about: one problem as it is, more
// as a list.
func problems(err error) string {
	list := config.Problems(err)
	if len(list) == 1 {
		return list[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems:", len(list))
	for _, e := range list {
		b.WriteString("\n    * " + e.Error())
	}
	return b.String()
}
