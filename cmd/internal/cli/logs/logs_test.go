package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"
)

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := New(&b, slog.LevelInfo, false)
		log := l.Logger().With("component", "agent", "dc", "dc1")
		log.Info("held until open", "n", 1)
		if b.Len() > 0 {
			t.Errorf("written before Open: %s", b.String())
		}
		l.Open()
		log.Debug("unseen")
		log.Warn("a line", "err", errors.New("broken pipe"), "took", 1500*time.Millisecond, "empty", "")
		log.Error("evil\nname", "k", "v\nw", slog.Group("g", "a", 1))
		l.Logger().Log(context.Background(), slog.LevelDebug-4, "trace, unseen")
		want := "2000-01-01T00:00:00.000Z [INFO]  agent: held until open: dc=dc1 n=1\n" +
			"2000-01-01T00:00:00.000Z [WARN]  agent: a line: dc=dc1 err=\"broken pipe\" took=1.5s empty=\"\"\n" +
			"2000-01-01T00:00:00.000Z [ERROR] agent: \"evil\\nname\": dc=dc1 k=\"v\\nw\" g.a=1\n"
		if b.String() != want {
			t.Errorf("got\n%s\nwant\n%s", b.String(), want)
		}
	})
}

func TestJSONLines(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, slog.LevelInfo, true)
	l.Open()
	l.Logger().With("component", "raft").Info("x", "n", 5, "ok", true, "f", 0.5, "d", time.Second, "err", errors.New("e\"e"))
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, b.String())
	}
	for k, want := range map[string]any{"@level": "info", "@message": "x", "@module": "raft", "n": 5.0, "ok": true, "f": 0.5, "d": "1s", "err": "e\"e"} {
		if got[k] != want {
			t.Errorf("%s is %v, want %v", k, got[k], want)
		}
	}
}

// TestHandlerRules runs the standard library's checks of handlers on the JSON
// form, with our names for its keys.
func TestHandlerRules(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, slog.LevelDebug, true)
	l.Open()
	err := slogtest.TestHandler(&handler{log: l}, func() []map[string]any {
		var out []map[string]any
		for line := range strings.Lines(b.String()) {
			var flat map[string]any
			if err := json.Unmarshal([]byte(line), &flat); err != nil {
				t.Fatal(err)
			}
			m := map[string]any{}
			for k, v := range flat {
				if name, ok := map[string]string{"@level": "level", "@message": "msg", "@timestamp": "time"}[k]; ok {
					k = name
				}
				at := m
				for path := strings.Split(k, "."); ; path = path[1:] {
					if len(path) == 1 {
						at[path[0]] = v
						break
					}
					if at[path[0]] == nil {
						at[path[0]] = map[string]any{}
					}
					at = at[path[0]].(map[string]any)
				}
			}
			out = append(out, m)
		}
		return out
	})
	if err != nil {
		t.Error(strings.ReplaceAll(err.Error(), "\n", "\n\t"))
	}
}

func TestFollow(t *testing.T) {
	l := New(io.Discard, slog.LevelWarn, false)
	l.Open()
	log := l.Logger()
	if log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug is on though nobody wants it")
	}
	lines, cancel := l.Follow(slog.LevelDebug, true)
	if !log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug is off though a follower wants it")
	}
	log.Debug("hello")
	if got := string(<-lines); !strings.Contains(got, `"@message":"hello"`) {
		t.Errorf("follower got %q", got)
	}
	for range 3 * followerLines { // nobody reads: must not block
		log.Debug("flood")
	}
	cancel()
	cancel()
	if log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug stays on after the follower has gone")
	}
	for len(lines) > 0 {
		<-lines
	}
	log.Error("after")
	if len(lines) > 0 {
		t.Error("a line after cancel")
	}
	l.SetLevel(slog.LevelDebug)
	if !log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("SetLevel has no effect")
	}
}

func TestFileRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f, err := OpenFile(FileConfig{Path: filepath.Join(dir, "sub", "l.log"), MaxBytes: 25, MaxAge: time.Hour, MaxFiles: 2})
		if err != nil {
			t.Fatal(err)
		}
		count := func() int {
			list, err := filepath.Glob(filepath.Join(dir, "sub", "l-*.log"))
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		write := func() {
			t.Helper()
			if _, err := f.Write([]byte("ten bytes\n")); err != nil {
				t.Fatal(err)
			}
		}
		write()
		write()
		if count() != 0 {
			t.Error("rotated below its size")
		}
		write()
		if count() != 1 {
			t.Errorf("%d old files after the size was passed, want 1", count())
		}
		time.Sleep(time.Hour)
		write()
		if count() != 2 {
			t.Errorf("%d old files after an hour, want 2", count())
		}
		for range 5 {
			time.Sleep(time.Hour)
			write()
		}
		if count() != 2 {
			t.Errorf("%d old files, want 2 kept", count())
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFileGoesOnWhenItCannotRotate(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFile(FileConfig{Path: filepath.Join(dir, "l.log"), MaxBytes: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprint(f, "one\n")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(f, "two\n"); err != nil {
		t.Errorf("a line was refused: %v", err)
	}
}

func BenchmarkUnwanted(b *testing.B) {
	log := New(io.Discard, slog.LevelInfo, false).Logger()
	for b.Loop() {
		log.Debug("x", "k", 1)
	}
}

func BenchmarkLine(b *testing.B) {
	l := New(io.Discard, slog.LevelInfo, false)
	l.Open()
	log := l.Logger().With("component", "agent", "dc", "dc1")
	for b.Loop() {
		log.Info("a line", "peer", "10.0.0.1:8300", "took", time.Second)
	}
}
