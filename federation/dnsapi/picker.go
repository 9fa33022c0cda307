package dnsapi

import "math/rand/v2"

// picker gives the order in which records are answered: shuffled uniformly, one
// step for each that is asked for, so that three of a thousand cost three steps.
type picker struct {
	shuffle bool
	rng     *rand.Rand
	order   []uint32
}

// reset starts with n records.
func (p *picker) reset(n int) {
	if !p.shuffle {
		return
	}
	if cap(p.order) < n {
		p.order = make([]uint32, n)
	}
	p.order = p.order[:n]
	for i := range p.order {
		p.order[i] = uint32(i)
	}
}

// next returns the i-th record; i counts up from 0 (Fisher and Yates).
func (p *picker) next(i int) int {
	if !p.shuffle {
		return i
	}
	j := i + p.rng.IntN(len(p.order)-i)
	p.order[i], p.order[j] = p.order[j], p.order[i]
	return int(p.order[i])
}
