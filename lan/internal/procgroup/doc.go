// Package procgroup runs programs of users so that what they start ends with
// them: each gets a process group of its own, and the group is killed as a whole.
//
// It holds no state. Outside: what is run, for how long, and what becomes of the
// output.
package procgroup
