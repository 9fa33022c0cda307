package agent

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"landbridge/store"
)

// The journal makes registrations durable at the price of one append and a share
// of one fsync; a file for each costs two to three times as much CPU as all the
// rest of a registration. It lies in services/ as journal.N and is replayed over
// the files in order of N. Each line is
//
//	crc32c of the rest in 8 hex digits, a space, [{"Dir","Name","File"}, ...], newline
//
// and is one edit, whole or not at all: File is what the file Dir/Name holds, or
// null if it is to go. The files follow within seconds, so that who looks into
// the folders, or comes with another program, finds what he knows; a journal is
// removed when all its edits are durable in files (checkpoint): when it has
// grown, and when the agent stops.
const (
	journalPrefix = "journal."
	journalMax    = 4 << 20 // bytes after which it is checkpointed
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journalFile is the part of *os.File that a journal needs: tests make it fail.
type journalFile interface {
	Write(b []byte) (int, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

func createJournal(path string) (journalFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
}

// fileKey names a definition's file: its folder, and the hash of its id.
type fileKey struct{ dir, name string }

// change is what becomes of a file: its new content, nil if it goes.
type change struct {
	key  fileKey
	data []byte
}

// journal is the part of disk that mu guards.
type journal struct {
	mu     sync.Mutex
	create func(path string) (journalFile, error)
	file   journalFile // nil until the first append, and after a checkpoint
	seq    int         // of the newest journal
	size   int64       // of file
	fresh  bool        // file's name is not durable yet
	// appended counts edits, synced is how many of them are durable for sure, and
	// wanted the last one that somebody waits for: nobody does for states.
	appended, synced, wanted uint64
	// broken says why file takes no more: a write that could not be taken back, or
	// a failed fsync, after which nobody knows what is on disk. A checkpoint, which
	// writes all anew, mends it.
	broken  error
	pending map[fileKey][]byte   // newer than the file of that name; nil: the file goes
	held    map[fileKey]struct{} // files that exist, or will when pending is written
	stale   map[fileKey]struct{} // written since the last checkpoint, and not synced
	due     bool                 // a checkpoint is: there are journals of earlier runs, or edits in none
}

// line encodes one edit.
func line(changes []change) []byte {
	n := 16
	for _, c := range changes {
		n += len(c.data) + 128
	}
	b := append(make([]byte, 0, n), "00000000 ["...)
	for i, c := range changes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"Dir":"`...)
		b = append(b, c.key.dir...)
		b = append(b, `","Name":"`...)
		b = append(b, c.key.name...)
		b = append(b, `","File":`...)
		if c.data == nil {
			b = append(b, "null"...)
		} else {
			b = append(b, c.data...)
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	sum := crc32.Checksum(b[9:], castagnoli)
	copy(b, hex.AppendEncode(nil, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}))
	return append(b, '\n')
}

var errJournalLine = errors.New("not a whole line of a journal")

// parseLine decodes one edit, without its newline.
func parseLine(b []byte) ([]change, error) {
	if len(b) < 11 || b[8] != ' ' {
		return nil, errJournalLine
	}
	sum, err := strconv.ParseUint(string(b[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(b[9:], castagnoli) {
		return nil, errJournalLine
	}
	var list []struct {
		Dir, Name string
		File      json.RawMessage
	}
	if err := json.Unmarshal(b[9:], &list); err != nil {
		return nil, err
	}
	out := make([]change, 0, len(list))
	for _, r := range list {
		known := r.Dir == servicesDir || r.Dir == checksDir || r.Dir == stateDir
		// A name is joined to a path.
		if raw, err := hex.DecodeString(r.Name); !known || err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("unknown file %q in %q", r.Name, r.Dir)
		}
		if string(r.File) == "null" {
			r.File = nil
		}
		out = append(out, change{fileKey{r.Dir, r.Name}, r.File})
	}
	return out, nil
}

// append writes one edit, which is durable once flush(pos) returns. Called under
// Agent.edit, so that the journal has the order of the edits. After an error
// nothing has changed.
func (d *disk) append(changes []change) (pos uint64, err error) {
	if d.dir == "" || len(changes) == 0 {
		return 0, nil
	}
	b := line(changes)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.writeLocked(b); err != nil {
		return 0, store.Errorf(store.KindInternal, "save definition: %w", err)
	}
	d.noteLocked(changes)
	if changes[0].key.dir != stateDir {
		d.wanted = d.appended
	}
	return d.appended, nil
}

func (d *disk) noteLocked(changes []change) {
	for _, c := range changes {
		d.pending[c.key] = c.data
		if c.data != nil {
			d.held[c.key] = struct{}{}
		} else {
			delete(d.held, c.key)
		}
	}
	d.notify()
}

func (d *disk) writeLocked(b []byte) error {
	if d.broken != nil {
		return d.broken
	}
	if d.file == nil {
		f, err := d.create(filepath.Join(d.dir, servicesDir, journalPrefix+strconv.Itoa(d.seq+1)))
		if err != nil {
			return err
		}
		d.file, d.size, d.fresh = f, 0, true
		d.seq++
	}
	if _, err := d.file.Write(b); err != nil {
		// Half a line would hide what follows it.
		if e := d.file.Truncate(d.size); e != nil {
			d.broken = errors.Join(err, e)
			d.notify()
		}
		return err
	}
	d.size += int64(len(b))
	d.appended++
	return nil
}

// drop removes files, as one edit. A journal that takes no more must not keep
// anybody from removing a definition: then it is durable with the next checkpoint.
func (d *disk) drop(keys []fileKey, log *slog.Logger) (pos uint64) {
	if d.dir == "" {
		return 0
	}
	var changes []change
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range keys {
		if _, ok := d.held[k]; ok {
			changes = append(changes, change{key: k})
		}
	}
	if len(changes) == 0 {
		return 0
	}
	if err := d.writeLocked(line(changes)); err == nil {
		pos, d.wanted = d.appended, d.appended
	} else {
		log.Warn("removal not in the journal, it is made durable with the next checkpoint", "err", err)
		d.due = true
	}
	d.noteLocked(changes)
	return pos
}

// flush returns when the edits up to pos are durable.
func (d *disk) flush(pos uint64) error {
	d.mu.Lock()
	done := d.synced >= pos
	d.mu.Unlock()
	if done {
		return nil
	}
	if err := d.syncs.sync(d.syncJournal); err != nil {
		return store.Errorf(store.KindInternal, "save definition: %w", err)
	}
	return nil
}

// unsynced is the position of the last registration, if it is not durable yet.
func (d *disk) unsynced() (pos uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wanted, d.wanted > d.synced
}

// syncJournal runs with the turn of syncs, so the file is not closed meanwhile.
func (d *disk) syncJournal() error {
	d.mu.Lock()
	f, fresh, pos, err := d.file, d.fresh, d.appended, d.broken
	d.mu.Unlock()
	if f == nil || err != nil {
		return err
	}
	if err = f.Sync(); err == nil && fresh {
		err = syncDir(filepath.Join(d.dir, servicesDir))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.broken = err
		d.notify()
		return err
	}
	d.synced = pos
	if d.file == f {
		d.fresh = false
	}
	return nil
}

// closeJournal has the next edit begin a journal, and makes the old one durable.
func (d *disk) closeJournal() error {
	d.mu.Lock()
	f, pos := d.file, d.appended
	d.file = nil
	d.mu.Unlock()
	if f == nil {
		return nil
	}
	err := f.Sync()
	d.mu.Lock()
	if err != nil {
		d.broken = err
	} else {
		d.synced = pos
	}
	d.mu.Unlock()
	return errors.Join(err, f.Close())
}

// replay reads the journals of the last run into pending, oldest first.
func (d *disk) replay(log *slog.Logger) error {
	dir := filepath.Join(d.dir, servicesDir)
	seqs, err := journals(dir)
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		d.seq, d.due = seq, true
		path := filepath.Join(dir, journalPrefix+strconv.Itoa(seq))
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		for len(b) > 0 {
			l, rest, whole := bytes.Cut(b, []byte{'\n'})
			changes, err := parseLine(l)
			switch {
			case err == nil && whole:
				d.noteLocked(changes)
			case whole || len(rest) > 0:
				log.Warn("line of a journal not understood, one registration may be lost", "file", path, "err", err)
			}
			// A last line without its end was never acknowledged.
			b = rest
		}
	}
	return nil
}

// journals lists the numbers of the journals in a folder, lowest first.
func journals(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("agent: %w", err)
	}
	var seqs []int
	for _, e := range entries {
		if s, ok := strings.CutPrefix(e.Name(), journalPrefix); ok {
			if n, err := strconv.Atoi(s); err == nil {
				seqs = append(seqs, n)
			}
		}
	}
	slices.Sort(seqs)
	return seqs, nil
}
