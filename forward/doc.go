// Package forward is the wire of the forward door, and what the doors that
// tunnel have in common: an address that a stranger asks for, two connections
// joined octet by octet, a listener that is passed on to another place, with a
// PROXY header or without.
//
// What it keeps: an Address that exists is well formed and in one spelling, so
// that two that mean the same compare equal; every octet that came is passed
// on in its order or the tunnel ends with an error; what ends on one side ends
// on the other; no tunnel outlives its context, its silence or its Run. Who
// may go where is decided by the caller. The package logs nothing.
package forward
