// Package bounce says why mail came back: to the program as a class, to the
// sender as a notice that people can read and programs can parse (RFC 3464).
//
// The invariant: what a stranger wrote, in a reply or in a message, is quoted
// and never becomes a line, a field or a part of its own.
package bounce
