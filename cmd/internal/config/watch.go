package config

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"
)

// watchEvery is how often the files are looked at. A change counts once they look
// the same twice, so that editors and tools that write several are done.
const watchEvery = time.Second

// Watch calls changed after the files of the command line, or the certificates
// they name, have changed, until ctx ends. It looks at times and sizes: that
// costs microseconds, and sees what notifications miss on network file systems
// and behind the links that Kubernetes swaps.
func (l *Loader) Watch(ctx context.Context, changed func()) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	known := l.fingerprint()
	last := known
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := l.fingerprint()
		if now != known && now == last {
			known = now
			changed()
		}
		last = now
	}
}

// fingerprint is another number when a file was changed, added or removed.
func (l *Loader) fingerprint() uint64 {
	h := fnv.New64a()
	add := func(path string) {
		fi, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(h, "%s gone\n", path)
			return
		}
		fmt.Fprintf(h, "%s %d %d %o\n", path, fi.Size(), fi.ModTime().UnixNano(), fi.Mode())
	}
	for _, path := range l.Files {
		entries, err := os.ReadDir(path)
		if err != nil {
			add(path) // a file, or gone
			continue
		}
		for _, e := range entries {
			if file := filepath.Join(path, e.Name()); l.Format != "" || formatOf(file) != "" {
				add(file)
			}
		}
	}
	l.mu.Lock()
	certificates := l.certificates
	l.mu.Unlock()
	for _, path := range certificates {
		add(path)
	}
	return h.Sum64()
}

// watched keeps the files that c names and that a reload reads too.
func (l *Loader) watched(c *Config) {
	var list []string
	for _, b := range []TLSBlock{c.TLS.Defaults, c.TLS.HTTPS, c.TLS.InternalRPC.TLSBlock} {
		for _, path := range []string{b.CAFile, b.CAPath, b.CertFile, b.KeyFile} {
			if path != "" {
				list = append(list, path)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.certificates = list
}
