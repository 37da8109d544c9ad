// Package resolve is the one way to the DNS: it asks the given servers, or
// those of resolv.conf, and remembers what they said for as long as they said
// so. It is a stub in the words of RFC 1034 section 5.3.1: the servers do the
// recursion. Names are taken as they stand; no search list is applied, because
// a domain in an address is always whole (RFC 5321 section 2.3.5).
//
// A Resolver starts no goroutine that outlives a call, and is safe for
// concurrent use.
package resolve
