// Package queuetest is the one suite for all engines of the queue: what each
// must do, and that it does it still when the process, the power, the disk or
// the clock fails.
//
// The invariant: what was answered by nil is there, whole, or was settled.
package queuetest
