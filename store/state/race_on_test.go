//go:build race

package state

// raceEnabled: the detector's shadow memory makes figures of memory meaningless.
const raceEnabled = true
