package cli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

// topScreen is a terminal that is drawn over. A nil one draws nothing and is never
// resized.
type topScreen struct {
	f       *os.File
	changes chan os.Signal
	restore func()
	last    *TopView
	note    string
}

// openScreen takes over the terminal: another page without a cursor, and keys that
// come at once. quit is called when q is pressed.
func openScreen(f *os.File, in io.Reader, quit func()) *topScreen {
	s := &topScreen{f: f, changes: make(chan os.Signal, 1), restore: func() {}}
	if len(resizeSignals) > 0 { // none would be all
		signal.Notify(s.changes, resizeSignals...)
	}
	if keys, ok := in.(*os.File); ok && isTerminal(keys) {
		if restore, err := keysAtOnce(keys); err == nil {
			s.restore = restore
			// It ends with the process: a read of a terminal cannot be stopped.
			go func() {
				b := make([]byte, 1)
				for {
					if _, err := keys.Read(b); err != nil {
						return
					}
					if b[0] == 'q' {
						quit()
						return
					}
				}
			}()
		}
	}
	fmt.Fprint(f, "\033[?1049h\033[?25l")
	return s
}

func (s *topScreen) close() {
	signal.Stop(s.changes)
	fmt.Fprint(s.f, "\033[?25h\033[?1049l")
	s.restore()
}

// resized tells that the terminal has another size.
func (s *topScreen) resized() <-chan os.Signal {
	if s == nil {
		return nil
	}
	return s.changes
}

// draw shows a view.
func (s *topScreen) draw(e Env, v *TopView) {
	s.last, s.note = v, ""
	s.redraw(e)
}

// failed keeps the last view, and says why there is no newer one.
func (s *topScreen) failed(e Env, err error) {
	s.note = "! no answer: " + printable(err.Error())
	s.redraw(e)
}

func (s *topScreen) redraw(e Env) {
	width, height := terminalSize(s.f)
	text := s.last.text(e, width, height)
	if s.note != "" {
		lines := strings.SplitN(text, "\n", 3)
		lines[1] = e.paint(red, clip(s.note, width))
		text = strings.Join(lines, "\n")
	}
	// Each line ends what was there before; what is below goes, too.
	fmt.Fprint(s.f, "\033[H"+strings.ReplaceAll(text, "\n", "\033[K\r\n")+"\033[J")
}
