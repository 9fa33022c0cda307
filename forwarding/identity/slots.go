package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"sync/atomic"
)

// secretHash is what a secret is known by.
type secretHash = [sha256.Size]byte

const slotCount = 4096

// slots keeps an entry for each of the secrets used last. Hashes fall on them
// evenly; two that fall on one push each other out.
type slots[T any] [slotCount]atomic.Pointer[slot[T]]

type slot[T any] struct {
	hash secretHash
	v    T
}

func (s *slots[T]) at(hash *secretHash) *atomic.Pointer[slot[T]] {
	return &s[binary.LittleEndian.Uint64(hash[:])%slotCount]
}

// get returns what is kept for a hash, nil if that is nothing.
func (s *slots[T]) get(hash *secretHash) *slot[T] {
	e := s.at(hash).Load()
	if e == nil || subtle.ConstantTimeCompare(e.hash[:], hash[:]) != 1 {
		return nil
	}
	return e
}

func (s *slots[T]) put(hash secretHash, v T) { s.at(&hash).Store(&slot[T]{hash, v}) }

// drop forgets what is kept for a hash.
func (s *slots[T]) drop(hash *secretHash) {
	if e := s.get(hash); e != nil {
		s.at(hash).CompareAndSwap(e, nil)
	}
}
