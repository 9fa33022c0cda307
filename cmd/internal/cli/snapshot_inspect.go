package cli

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"landbridge/store/archive"
	"landbridge/store/state"
)

// sizeStat is how much there is of one kind of record, or of keys under a prefix.
type sizeStat struct {
	Name  string
	Sum   int64
	Count int
}

// inspected is what snapshot inspect prints with -format=json.
type inspected struct {
	Meta        archive.Meta
	Stats       []sizeStat
	StatsKV     []sizeStat `json:",omitempty"`
	TotalSize   int64
	TotalSizeKV int64 `json:",omitempty"`
}

func snapshotInspect() *command {
	return &command{
		name:     "snapshot inspect",
		args:     "FILE",
		synopsis: "Show what a snapshot file holds",
		help: `
Checks a snapshot file and shows when it was taken and how much it holds of each
kind of record. With -kvdetails also how much lies under which keys: -kvdepth says
how many parts of a key count, -kvfilter picks the keys that begin with it.

    $ landbridge snapshot inspect backup.snap
    $ landbridge snapshot inspect -kvdetails -kvdepth=3 -kvfilter=config/ backup.snap
    $ landbridge snapshot inspect -format=json backup.snap`,
		setup: func(fs *flag.FlagSet) run {
			format := formatFlag(fs)
			details := fs.Bool("kvdetails", false, "Show the sizes of keys too.")
			depth := fs.Int("kvdepth", 2, "How many parts of a key, split at /, to tell apart. `N`")
			filter := fs.String("kvfilter", "", "Only keys that begin with this. `PREFIX`")
			return func(c *call) error {
				switch {
				case len(c.args) == 0:
					return usagef("Missing FILE argument")
				case len(c.args) > 1:
					return c.atMost(1)
				case *depth < 1:
					return failf("-kvdepth must be at least 1")
				}
				f, err := os.Open(c.args[0])
				if err != nil {
					return failf("Error opening snapshot file: %w", err)
				}
				defer f.Close()
				kinds, keys := newStats(), newStats()
				meta, err := readSnapshot(f, func(kind state.RecordKind, record []byte) error {
					kinds.add(kind.Name(), len(record))
					if key, ok := kind.Key(record); ok && *details && strings.HasPrefix(key, *filter) {
						keys.add(keyPrefix(key, *depth), len(record))
					}
					return nil
				})
				foreign := errors.Is(err, errForeign)
				if err != nil && !foreign {
					return failf("Error reading snapshot: %w", err)
				}
				out := inspected{Meta: meta, Stats: kinds.sorted(), StatsKV: keys.sorted(), TotalSize: kinds.total, TotalSizeKV: keys.total}
				if *format == "json" {
					if err := c.printJSON(out); err != nil {
						return err
					}
				} else {
					c.printInspected(out, *details)
				}
				if foreign {
					fmt.Fprintf(c.Stderr, "Note: %s.\n", err)
				}
				return nil
			}
		},
	}
}

// keyPrefix is the first parts of a key.
func keyPrefix(key string, depth int) string {
	parts := strings.SplitN(key, "/", depth+1)
	return strings.Join(parts[:min(depth, len(parts))], "/")
}

type stats struct {
	by    map[string]*sizeStat
	total int64
}

func newStats() *stats { return &stats{by: make(map[string]*sizeStat)} }

func (s *stats) add(name string, size int) {
	st := s.by[name]
	if st == nil {
		st = &sizeStat{Name: name}
		s.by[name] = st
	}
	st.Sum += int64(size)
	st.Count++
	s.total += int64(size)
}

// sorted is the largest first.
func (s *stats) sorted() []sizeStat {
	list := make([]sizeStat, 0, len(s.by))
	for _, st := range s.by {
		list = append(list, *st)
	}
	slices.SortFunc(list, func(a, b sizeStat) int {
		return cmp.Or(cmp.Compare(b.Sum, a.Sum), strings.Compare(a.Name, b.Name))
	})
	return list
}

func (c *call) printInspected(in inspected, details bool) {
	w := tabwriter.NewWriter(c.Stdout, 8, 8, 6, ' ', 0)
	fmt.Fprintf(w, " ID\t%s\n Size\t%d\n Index\t%d\n Term\t%d\n Version\t%d\n\n",
		printable(in.Meta.ID), in.Meta.Size, in.Meta.Index, in.Meta.Term, in.Meta.Version)
	table := func(head string, list []sizeStat, total int64) {
		fmt.Fprintf(w, " %s\tCount\tSize\n ----\t----\t----\n", head)
		for _, s := range list {
			fmt.Fprintf(w, " %s\t%d\t%s\n", printable(s.Name), s.Count, byteSize(s.Sum))
		}
		fmt.Fprintf(w, " ----\t----\t----\n Total\t\t%s\n", byteSize(total))
	}
	table("Type", in.Stats, in.TotalSize)
	if details {
		fmt.Fprintln(w)
		table("Key Name", in.StatsKV, in.TotalSizeKV)
	}
	w.Flush()
}

// byteSize shows a size with one digit behind the point where that says more.
func byteSize(n int64) string {
	unit, v := "B", float64(n)
	for _, next := range []string{"KB", "MB", "GB", "TB"} {
		if v < 1024 {
			break
		}
		unit, v = next, v/1024
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + unit
}
