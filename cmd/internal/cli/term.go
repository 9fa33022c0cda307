package cli

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

func isTerminal(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

// Colors of terminals; used only where Env.Color says so.
const (
	green = "32"
	red   = "31"
	dim   = "2"
)

// paint colors s, which keeps its width.
func (e Env) paint(color, s string) string {
	if !e.Color || color == "" || s == "" {
		return s
	}
	return "\033[" + color + "m" + s + "\033[0m"
}

// columns aligns rows by two blanks. paint, if not nil, colors a cell after it
// was measured.
func columns(w io.Writer, rows [][]string, paint func(row, col int, s string) string) {
	spaced(w, 2, rows, paint)
}

// spaced is columns with so many blanks in between.
func spaced(w io.Writer, gap int, rows [][]string, paint func(row, col int, s string) string) {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for y, r := range rows {
		for x, cell := range r {
			text := cell
			if paint != nil {
				text = paint(y, x, cell)
			}
			b.WriteString(text)
			if x < len(r)-1 {
				b.WriteString(strings.Repeat(" ", widths[x]-utf8.RuneCountInString(cell)+gap))
			}
		}
		b.WriteByte('\n')
	}
	io.WriteString(w, b.String())
}

// printJSON prints v for programs, indented by four blanks.
func (c *call) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	_, err = c.Stdout.Write(append(b, '\n'))
	return err
}

// printable replaces what would change the terminal: names and values may come
// from anyone who can register.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return utf8.RuneError
		}
		return r
	}, s)
}
