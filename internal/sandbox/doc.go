// Package sandbox shuts this process in for as long as it lives: after Enter
// it reaches only the files and TCP ports of its profile and starts no
// program, and after Drop it is no longer root. What was opened before stays
// open. None of it can be undone.
package sandbox
