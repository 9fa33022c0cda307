package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"

	"landbridge/cmd/internal/client"
)

// semaphore is a lock of several holders.
type semaphore struct {
	sess   *session
	prefix string
	limit  int
}

// holders is the value of the semaphore's key.
type holders struct {
	Limit   int
	Holders map[string]bool // by session
}

func (s *semaphore) key() string       { return path.Join(s.prefix, keyName) }
func (s *semaphore) contender() string { return path.Join(s.prefix, s.sess.id) }

var flagsOfSemaphore = strconv.FormatUint(semaphoreFlags, 10)

// read returns the list of holders without the dead, the index of its key to
// check and set by, and whether the list had to be cleared of some. It counts all
// keys below the prefix that a session holds as contenders.
func (s *semaphore) read(ctx context.Context, index uint64, consistent bool) (h holders, cas uint64, contenders int, next uint64, err error) {
	pairs, next, err := s.sess.read(ctx, s.prefix+"/", index, consistent, true)
	if err != nil {
		return h, 0, 0, 0, err
	}
	h = holders{Limit: s.limit, Holders: make(map[string]bool)}
	alive := make(map[string]bool)
	var list *client.KVPair
	for i := range pairs {
		switch p := &pairs[i]; {
		case p.Key == s.key():
			list = p
		case p.Session != "":
			alive[p.Session] = true
		}
	}
	if list != nil {
		cas = list.ModifyIndex
		if list.Flags != semaphoreFlags {
			return h, 0, 0, 0, fmt.Errorf("%w: %s is no semaphore", ErrConflict, s.key())
		}
		if err := json.Unmarshal(list.Value, &h); err != nil {
			return h, 0, 0, 0, fmt.Errorf("%w: %s holds no list: %w", ErrConflict, s.key(), err)
		}
		if h.Limit != s.limit {
			return h, 0, 0, 0, fmt.Errorf("%w: semaphore limit conflict (there: %d, here: %d)", ErrConflict, h.Limit, s.limit)
		}
	}
	for id := range h.Holders {
		if !alive[id] {
			delete(h.Holders, id)
		}
	}
	return h, cas, len(alive), next, nil
}

// write sets the list if it is still the one with index cas (0: there is none).
func (s *semaphore) write(ctx context.Context, h holders, cas uint64) (bool, error) {
	value, err := json.Marshal(h)
	if err != nil {
		return false, err
	}
	return s.sess.write(ctx, http.MethodPut, s.key(), url.Values{"cas": {strconv.FormatUint(cas, 10)}, "flags": {flagsOfSemaphore}}, value)
}

func (s *semaphore) acquire(ctx context.Context) error {
	for {
		ok, err := s.sess.write(ctx, http.MethodPut, s.contender(), url.Values{"acquire": {s.sess.id}, "flags": {flagsOfSemaphore}}, nil)
		if ok {
			break
		}
		if err == nil {
			return fmt.Errorf("%w: %s is held by another session", ErrConflict, s.contender())
		}
		if err := s.sess.retry(ctx, err); err != nil {
			return err
		}
	}
	var index uint64
	for {
		h, cas, _, next, err := s.read(ctx, index, false)
		if err != nil {
			if err := s.sess.retry(ctx, err); err != nil {
				return err
			}
			index = 0
			continue
		}
		if index = next; !h.Holders[s.sess.id] && len(h.Holders) >= s.limit {
			// Blocks until a contender or the list changes.
			select {
			case <-s.sess.over:
				return s.sess.err
			default:
				continue
			}
		}
		h.Holders[s.sess.id] = true
		ok, err := s.write(ctx, h, cas)
		if ok {
			return nil
		}
		index = 0 // the list changed meanwhile: look again at once
		if err != nil {
			if err := s.sess.retry(ctx, err); err != nil {
				return err
			}
		}
	}
}

func (s *semaphore) holds(ctx context.Context, index uint64) (bool, uint64, error) {
	h, _, _, next, err := s.read(ctx, index, true)
	return h.Holders[s.sess.id], next, err
}

// release strikes this session off the list.
func (s *semaphore) release(ctx context.Context) error {
	for range 20 { // others write the list, too; who is not alive is struck off by them
		h, cas, _, _, err := s.read(ctx, 0, true)
		if err != nil && !errors.Is(err, ErrConflict) {
			return fmt.Errorf("release %s: %w", s.key(), err)
		}
		if err != nil || !h.Holders[s.sess.id] {
			break
		}
		delete(h.Holders, s.sess.id)
		ok, err := s.write(ctx, h, cas)
		if err != nil {
			return fmt.Errorf("release %s: %w", s.key(), err)
		}
		if ok {
			break
		}
	}
	if _, err := s.sess.write(ctx, http.MethodDelete, s.contender(), nil, nil); err != nil {
		return fmt.Errorf("remove %s: %w", s.contender(), err)
	}
	return nil
}

func (s *semaphore) clean(ctx context.Context) error {
	h, cas, contenders, _, err := s.read(ctx, 0, true)
	if err != nil || cas == 0 || contenders > 0 || len(h.Holders) > 0 {
		return ignoreConflict(err)
	}
	_, err = s.sess.write(ctx, http.MethodDelete, s.key(), url.Values{"cas": {strconv.FormatUint(cas, 10)}}, nil)
	return err
}
