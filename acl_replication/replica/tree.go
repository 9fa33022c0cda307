package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

const (
	leafSize = 16
	// perLeaf is about how many rows a leaf has: one that differs is listed whole.
	perLeaf = 16
	maxBits = 12
)

// BitsFor is the size of a tree of so many rows.
func BitsFor(rows int) uint8 {
	return uint8(min(bits.Len(uint(rows/perLeaf)), maxBits))
}

// LeafOf is the leaf of a row in a tree with 1<<bits leaves. The hash (FNV-1a,
// mixed so that its upper bits depend on all) is part of the protocol.
func LeafOf(id string, bits uint8) uint32 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	if bits == 0 {
		return 0
	}
	return uint32(h >> (64 - min(bits, maxBits)))
}

// builder makes a tree of rows that come in any order.
type builder struct {
	bits   uint8
	leaves [][]Entry
	count  uint64
}

func newBuilder(bits uint8) *builder {
	bits = min(bits, maxBits)
	return &builder{bits: bits, leaves: make([][]Entry, 1<<bits)}
}

func (b *builder) add(id string, d Digest) {
	l := LeafOf(id, b.bits)
	b.leaves[l] = append(b.leaves[l], Entry{id, d})
	b.count++
}

// tree hashes what was added. A leaf without rows is all zeros.
func (b *builder) tree(kind Kind) Tree {
	t := Tree{Root: Root{Kind: kind, Bits: b.bits, Count: b.count}, Leaves: make([][leafSize]byte, len(b.leaves))}
	all := sha256.New()
	var buf []byte
	for i, entries := range b.leaves {
		if len(entries) > 0 {
			sortEntries(entries)
			buf = buf[:0]
			for _, e := range entries {
				buf = binary.AppendUvarint(buf, uint64(len(e.ID)))
				buf = append(buf, e.ID...)
				buf = append(buf, e.Digest[:]...)
			}
			sum := sha256.Sum256(buf)
			copy(t.Leaves[i][:], sum[:])
		}
		all.Write(t.Leaves[i][:])
	}
	all.Sum(t.Hash[:0])
	return t
}

func sortEntries(list []Entry) {
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
}

// BuildTree makes the tree of the rows that scan gives. bits < 0: as many leaves as
// suit them.
func BuildTree(kind Kind, bits int, scan func(each func(id string, d Digest))) Tree {
	if bits >= 0 {
		b := newBuilder(uint8(min(bits, maxBits)))
		scan(b.add)
		return b.tree(kind)
	}
	var all []Entry
	scan(func(id string, d Digest) { all = append(all, Entry{id, d}) })
	b := newBuilder(BitsFor(len(all)))
	for _, e := range all {
		b.add(e.ID, e.Digest)
	}
	return b.tree(kind)
}

// differ lists the leaves in which two trees of a size differ.
func differ(a, b [][leafSize]byte) (leaves []uint32) {
	for i := range a {
		if !bytes.Equal(a[i][:], b[i][:]) {
			leaves = append(leaves, uint32(i))
		}
	}
	return leaves
}
