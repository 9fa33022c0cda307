// Package nearest finds the known word closest to a mistyped one, for messages
// that say "did you mean". Pure functions, safe for concurrent use.
package nearest

// Word returns the candidate with the smallest edit distance to word, and
// whether it is near enough to be worth naming: at most a third of the letters
// differ, two in short words, or one begins with the other. Ties go to the
// earlier candidate.
func Word(word string, candidates []string) (string, bool) {
	best, bestDist := "", -1
	for _, c := range candidates {
		d := Distance(word, c)
		if hasPrefix(c, word) || hasPrefix(word, c) {
			d = min(d, 2)
		}
		if bestDist < 0 || d < bestDist {
			best, bestDist = c, d
		}
	}
	return best, bestDist >= 0 && bestDist <= max(2, max(len(word), len(best))/3)
}

// hasPrefix says whether s begins with p, and p is long enough to mean something.
func hasPrefix(s, p string) bool { return len(p) >= 3 && len(s) >= len(p) && s[:len(p)] == p }

// Distance is the number of bytes to insert, delete, replace or swap with their
// neighbour to turn a into b (optimal string alignment).
func Distance(a, b string) int {
	// Three rows: the swap looks two rows back.
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
