package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FileConfig says how a log file rotates.
type FileConfig struct {
	Path     string        // a folder (with a slash at its end) gets "landbridge.log"
	MaxBytes int           // 0: size does not matter
	MaxAge   time.Duration // 0: age does not matter
	MaxFiles int           // old files to keep; 0: all, -1: none
}

// File is a log file that rotates: it is renamed to NAME-TIME.EXT and begun
// anew. Safe for concurrent use.
type File struct {
	cfg FileConfig

	mu    sync.Mutex
	f     *os.File
	size  int64
	began time.Time
}

// OpenFile opens a log file, or goes on with one that is there.
func OpenFile(cfg FileConfig) (*File, error) {
	if cfg.Path == "" {
		return nil, errors.New("log file: no path")
	}
	if strings.HasSuffix(cfg.Path, string(filepath.Separator)) {
		cfg.Path = filepath.Join(cfg.Path, "landbridge.log")
	}
	file := &File{cfg: cfg}
	if err := file.open(); err != nil {
		return nil, err
	}
	return file, nil
}

func (f *File) open() error {
	if err := os.MkdirAll(filepath.Dir(f.cfg.Path), 0o755); err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	file, err := os.OpenFile(f.cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	fi, err := file.Stat()
	if err != nil {
		file.Close()
		return fmt.Errorf("log file: %w", err)
	}
	f.f, f.size, f.began = file, fi.Size(), time.Now()
	return nil
}

// Write adds lines. A file that cannot be rotated is written on: a full disk or
// a lost permission must not cost the lines that still can be kept.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	full := f.cfg.MaxBytes > 0 && f.size > 0 && f.size+int64(len(p)) > int64(f.cfg.MaxBytes)
	old := f.cfg.MaxAge > 0 && f.size > 0 && time.Since(f.began) >= f.cfg.MaxAge
	if full || old {
		if err := f.rotate(); err != nil {
			f.began = time.Now() // try again after another age, not with each line
			f.size = 0
		}
	}
	n, err := f.f.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *File) rotate() error {
	ext := filepath.Ext(f.cfg.Path)
	base := strings.TrimSuffix(f.cfg.Path, ext)
	if err := os.Rename(f.cfg.Path, base+"-"+strconv.FormatInt(time.Now().UnixNano(), 10)+ext); err != nil {
		return err
	}
	before := f.f
	if err := f.open(); err != nil {
		f.f = before
		return err
	}
	err := before.Close()
	return errors.Join(err, f.prune(base, ext))
}

// prune removes the oldest files beyond MaxFiles.
func (f *File) prune(base, ext string) error {
	if f.cfg.MaxFiles == 0 {
		return nil
	}
	list, err := filepath.Glob(base + "-*" + ext)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p string) bool {
		stamp := strings.TrimSuffix(strings.TrimPrefix(p, base+"-"), ext)
		_, err := strconv.ParseInt(stamp, 10, 64)
		return err != nil // not ours
	})
	slices.Sort(list)
	var errs []error
	for _, p := range list[:max(0, len(list)-max(0, f.cfg.MaxFiles))] {
		errs = append(errs, os.Remove(p))
	}
	return errors.Join(errs...)
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.f.Close()
}
