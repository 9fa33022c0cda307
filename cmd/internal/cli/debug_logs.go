package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// unit is the name of the agent's service in deploy/systemd.
const unit = "landbridge"

// earlierLogs adds what was logged before: the agent's log files, if it writes
// any, else this machine's journal.
func (r *recording) earlierLogs(ctx context.Context) error {
	from := r.began.Add(-r.since)
	if err := os.MkdirAll(r.file("logs"), 0o700); err != nil {
		return err
	}
	if r.logFile == "" {
		return r.journal(ctx, from)
	}
	path := r.logFile
	if strings.HasSuffix(path, string(filepath.Separator)) {
		path = filepath.Join(path, "landbridge.log")
	}
	ext := filepath.Ext(path)
	// Rotated files carry the time between name and extension.
	list, err := filepath.Glob(strings.TrimSuffix(path, ext) + "*" + ext)
	if err != nil {
		return err
	}
	copied := 0
	for _, p := range list {
		fi, err := os.Stat(p)
		if err != nil {
			return err
		}
		if fi.ModTime().Before(from) {
			continue
		}
		if err := r.copyLog(p); err != nil {
			return err
		}
		copied++
	}
	if copied == 0 {
		return fmt.Errorf("no log of the last %s at %s on this machine", r.since, path)
	}
	return nil
}

// copyLog copies a file line by line, without what is secret.
func (r *recording) copyLog(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(r.file("logs", filepath.Base(path)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(r.copyLines(out, in), out.Close())
}

// copyLines copies lines as they come, without what is secret. The end of in is
// no error.
func (r *recording) copyLines(out io.Writer, in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if _, err := out.Write(r.hide(line)); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// journal asks journald.
func (r *recording) journal(ctx context.Context, from time.Time) error {
	bin, err := exec.LookPath("journalctl")
	if err != nil {
		return fmt.Errorf("the agent writes no log file, and this machine has no journal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "--no-pager", "--output=short-iso-precise", "--unit="+unit, fmt.Sprintf("--since=@%d", from.Unix()))
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("journalctl: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return os.WriteFile(r.file("logs", "journal.log"), r.hide(out), 0o600)
}
