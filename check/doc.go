// Package check is the auditor: it finds the doors of a target, plays the
// forms against each, waits for what arrives at the collector, and returns a
// report. It is polite (see pace.go and battery.go), and it tests only what
// the caller may test (see owner.go).
package check
