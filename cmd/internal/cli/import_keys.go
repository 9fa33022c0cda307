package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"landbridge/cmd/internal/client"
)

// Bounds of what is compared and written at once: a transaction takes 128 operations
// and, unless limits.txn_max_req_len says otherwise, 512 KiB of JSON. A value that does
// not fit goes alone.
const (
	importBatch      = 64
	importBatchBytes = 192 << 10
)

// keys copies the key/value store. The source's answer is put aside first, so that it
// is read at the source's pace and is of one moment; after that one batch is in memory.
func (im *importer) keys() error {
	spool, size, err := im.spoolKeys()
	if err != nil || spool == nil {
		return err
	}
	defer spool.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(spool, 1<<20))
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("the source's keys: %w", err)
	}
	var batch []client.KVPair
	bytes, locked := 0, 0
	for dec.More() {
		var kv client.KVPair
		if err := dec.Decode(&kv); err != nil {
			return fmt.Errorf("the source's keys: %w", err)
		}
		if kv.Session != "" {
			locked++
		}
		if len(batch) > 0 && (len(batch) == importBatch || bytes+len(kv.Value) > importBatchBytes) {
			if err := im.keyBatch(batch); err != nil {
				return err
			}
			batch, bytes = batch[:0], 0
		}
		batch, bytes = append(batch, kv), bytes+len(kv.Value)
		im.progress(dec.InputOffset(), size)
	}
	if err := im.keyBatch(batch); err != nil {
		return err
	}
	im.progress(size, size)
	if locked > 0 {
		im.part.note("%d of them are locked at the source, and not here", locked)
	}
	return nil
}

// spoolKeys reads all keys into a file without a name; nil if there are none.
func (im *importer) spoolKeys() (f *os.File, size int64, err error) {
	ctx, cancel := context.WithTimeout(im.c.ctx, importSpool)
	defer cancel()
	resp, err := im.from.Do(ctx, http.MethodGet, client.KeyPath(im.prefix), url.Values{"recurse": {""}}, nil)
	if client.NotFound(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if f, err = os.CreateTemp("", "landbridge-import-"); err != nil {
		return nil, 0, err
	}
	if err = os.Remove(f.Name()); err == nil {
		if size, err = io.Copy(f, resp.Body); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("keep the source's keys in %s: %w", os.TempDir(), err)
	}
	return f, size, nil
}

// txnKV is an operation of a transaction on a key.
type txnKV struct {
	Verb  string
	Key   string
	Value []byte `json:",omitempty"`
	Flags uint64 `json:",omitempty"`
	Index uint64
}

type txnOp struct{ KV txnKV }

// keyTries is how often a batch is compared again because somebody else writes it.
const keyTries = 5

// keyBatch compares keys with those here, and writes what is not: what changes in
// between is compared again.
func (im *importer) keyBatch(batch []client.KVPair) error {
	if len(batch) == 0 {
		return nil
	}
	for try := 1; ; try++ {
		have, err := im.keysHere(batch)
		if err != nil {
			return err
		}
		out := *im.part
		var ops []txnOp
		for i, kv := range batch {
			h := have[i]
			switch {
			case h.ModifyIndex == 0:
				out.Created++
			case h.Flags == kv.Flags && bytes.Equal(h.Value, kv.Value):
				out.Same++
				continue
			case !im.overwrite:
				out.Differs++
				out.note("%s: has another value here", kv.Key)
				continue
			default:
				out.Updated++
			}
			ops = append(ops, txnOp{txnKV{"cas", kv.Key, kv.Value, kv.Flags, h.ModifyIndex}})
		}
		ok := true
		if len(ops) > 0 && !im.dry {
			if ok, err = im.writeKeys(ops); err != nil {
				return err
			}
		}
		if ok {
			*im.part = out
			return nil
		}
		if try == keyTries {
			return fmt.Errorf("keys from %q to %q are written by somebody else all the time", batch[0].Key, batch[len(batch)-1].Key)
		}
	}
}

// keysHere reads the batch's keys, in its order; one that is not there has
// ModifyIndex 0.
func (im *importer) keysHere(batch []client.KVPair) ([]client.KVPair, error) {
	ops := make([]txnOp, len(batch))
	for i, kv := range batch {
		ops[i].KV = txnKV{Verb: "get-or-empty", Key: kv.Key}
	}
	var got struct{ Results []struct{ KV client.KVPair } }
	if err := im.write(http.MethodPut, "/v1/txn", nil, ops, &got); err != nil {
		return nil, fmt.Errorf("read keys here: %w", err)
	}
	if len(got.Results) != len(batch) {
		return nil, fmt.Errorf("read keys here: %d answers to %d questions", len(got.Results), len(batch))
	}
	have := make([]client.KVPair, len(batch))
	for i := range batch {
		have[i] = got.Results[i].KV
	}
	return have, nil
}

// writeKeys writes the batch, all or nothing; false: somebody else wrote one of them.
func (im *importer) writeKeys(ops []txnOp) (bool, error) {
	if len(ops) == 1 { // it may be too large for a transaction
		kv := ops[0].KV
		q := url.Values{"cas": {strconv.FormatUint(kv.Index, 10)}}
		if kv.Flags != 0 {
			q.Set("flags", strconv.FormatUint(kv.Flags, 10))
		}
		var ok bool
		if err := im.write(http.MethodPut, client.KeyPath(kv.Key), q, kv.Value, &ok); err != nil {
			return false, fmt.Errorf("write %s: %w", kv.Key, err)
		}
		return ok, nil
	}
	err := im.write(http.MethodPut, "/v1/txn", nil, ops, nil)
	var status *client.StatusError
	if errors.As(err, &status) && status.Code == http.StatusConflict {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write keys from %s to %s: %w", ops[0].KV.Key, ops[len(ops)-1].KV.Key, err)
	}
	return true, nil
}
