// Package maildir puts messages into Maildirs.
//
// The invariant: what stands in new/ is a whole message that survives the loss
// of power, and what Deliver returned nil for stands there. A delivery that
// failed or was cut off leaves at most a file in tmp/, which nobody reads.
package maildir
