package cli

import (
	"bufio"
	"encoding/json"
	"flag"
	"os"

	"landbridge/store/state"
)

func snapshotDecode() *command {
	return &command{
		name:     "snapshot decode",
		args:     "FILE",
		synopsis: "Print the records of a snapshot file in JSON",
		help: `
Prints one JSON object a line: {"Type", "Data"}, where Data is the record as the
HTTP API shows it, if it does. The file is checked while it is read: only if the
command succeeds was it whole.

    $ landbridge snapshot decode backup.snap | jq 'select(.Type == "KVS").Data.Key'`,
		setup: func(fs *flag.FlagSet) run {
			return func(c *call) error {
				switch {
				case len(c.args) == 0:
					return usagef("Missing FILE argument")
				case len(c.args) > 1:
					return c.atMost(1)
				}
				f, err := os.Open(c.args[0])
				if err != nil {
					return failf("Error opening snapshot file: %w", err)
				}
				defer f.Close()
				out := bufio.NewWriterSize(c.Stdout, 64<<10)
				var line []byte
				_, err = readSnapshot(f, func(kind state.RecordKind, record []byte) (err error) {
					name, err := json.Marshal(kind.Name())
					if err != nil {
						return err
					}
					line = append(append(append(line[:0], `{"Type":`...), name...), `,"Data":`...)
					if line, err = kind.AppendJSON(line, record); err != nil {
						return err
					}
					_, err = out.Write(append(line, "}\n"...))
					return err
				})
				if flushed := out.Flush(); err == nil {
					err = flushed
				}
				if err != nil {
					return failf("Error decoding snapshot: %w", err)
				}
				return nil
			}
		},
	}
}
