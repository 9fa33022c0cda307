// Command landbridge joins datacenters: one binary that is the agent, server or
// client, and the command line that asks it. `landbridge help` lists the commands.
package main

import (
	"context"
	"os"

	"landbridge/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.System()))
}
