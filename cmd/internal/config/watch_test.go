package config

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	certs := t.TempDir()
	newAuthority(t, "ca").issue(t, certs, "s1")
	main := write(t, dir, "main.hcl", `data_dir = "x"
		tls { defaults { ca_file = "`+certs+`/ca.pem" cert_file = "`+certs+`/s1.pem" key_file = "`+certs+`/s1-key.pem" } }`)
	write(t, dir, "conf/a.json", `{"node_meta":{"a":"1"}}`)
	l := &Loader{Machine: machine(), Files: []string{main, filepath.Join(dir, "conf")}}
	if _, _, err := l.Load(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var changes atomic.Int32
		go l.Watch(ctx, func() { changes.Add(1) })
		synctest.Wait()
		for _, c := range []struct {
			name   string
			change func()
			want   int
		}{
			{"nothing", func() {}, 0},
			{"a file", func() { write(t, dir, "main.hcl", `data_dir = "y"`) }, 1},
			{"a new file", func() { write(t, dir, "conf/b.hcl", ``) }, 1},
			{"a file of another kind", func() { write(t, dir, "conf/.a.json.swp", `x`) }, 0},
			{"a file that is gone", func() { os.Remove(filepath.Join(dir, "conf", "b.hcl")) }, 1},
			{"a certificate", func() { write(t, certs, "s1.pem", `new`) }, 1},
			{"a link that is swapped", func() {
				real := write(t, dir, "elsewhere", `{"node_meta":{"a":"2","b":"3"}}`)
				os.Remove(filepath.Join(dir, "conf", "a.json"))
				if err := os.Symlink(real, filepath.Join(dir, "conf", "a.json")); err != nil {
					t.Fatal(err)
				}
			}, 1},
			{"many writes", func() {
				time.Sleep(watchEvery / 10) // never at the moment of a look
				for i := range 5 {
					write(t, dir, "main.hcl", `data_dir = "`+"zzzzzzzzz"[:i+1]+`"`)
					time.Sleep(watchEvery * 3 / 4)
				}
			}, 1},
		} {
			before := changes.Load()
			c.change()
			time.Sleep(3 * watchEvery)
			synctest.Wait()
			if got := int(changes.Load() - before); got != c.want {
				t.Errorf("%s: %d changes, want %d", c.name, got, c.want)
			}
		}
	})
}
