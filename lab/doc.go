// Package lab is the safe range: every kind of open relay, and the decoys that
// fool testers, on loopback addresses. What a specimen takes it hands to the
// collector on loopback and to nobody else: see sink.go.
package lab
