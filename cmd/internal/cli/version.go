package cli

import (
	"flag"
	"runtime/debug"
)

// Version is the version of the Consul HTTP API that is announced to clients, which
// read features from it.
const Version = "1.21.4"

// Release is landbridge's own version, as its build says.
var Release = release

// release is set by the linker (-X), which cannot set constants.
var release = "0.1.0"

// Protocol versions of the LAN pool.
const (
	protocolDefault = 2
	protocolMin     = 2
	protocolMax     = 3
)

func versionCommand() *command {
	return &command{
		name:     "version",
		synopsis: "Show the version",
		help: `
Shows landbridge's own version, and the version of the Consul HTTP API that it
is compatible with. In JSON, Version is the latter: tools read features from it.

    $ landbridge version
    $ landbridge version -format=json`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			return func(c *call) error {
				if err := c.atMost(0); err != nil {
					return err
				}
				revision, date := build()
				if *format == "json" {
					return c.printJSON(struct {
						Version, Revision, Prerelease, BuildDate string
						RPC                                      struct{ Default, Min, Max int }
						Landbridge                               string
					}{Version, revision, "", date, struct{ Default, Min, Max int }{protocolDefault, protocolMin, protocolMax}, Release})
				}
				c.printf("Landbridge v%s\n", Release)
				c.printf("Compatible with the Consul HTTP API v%s\n", Version)
				if revision != "" {
					c.printf("Revision %s\n", revision)
				}
				c.printf("Build Date %s\n", date)
				c.printf("Protocol %d spoken by default, understands %d to %d (agent will automatically use protocol >%d when speaking to compatible agents)\n",
					protocolDefault, protocolMin, protocolMax, protocolDefault)
				return nil
			}
		},
	}
}

// build reads the revision and its time that the Go tool stamped.
func build() (revision, date string) {
	date = "1970-01-01T00:00:01Z"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", date
	}
	dirty := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(8, len(s.Value))]
		case "vcs.time":
			date = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+"
			}
		}
	}
	return revision + dirty, date
}
