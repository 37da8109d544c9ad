// Package mail holds the words of RFC 5321 as values: domains, addresses,
// reverse-paths, forward-paths, envelopes, replies and header fields.
//
// A value of this package is valid by construction: it was made by one parser
// that consumed its whole input, it formats to one canonical text, and that
// text parses to the same value. The zero value means "none" and is refused
// where it would matter.
package mail
