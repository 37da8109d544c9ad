// Package socks is the wire of the socks door: SOCKS 4, 4a and 5 (RFC 1928,
// RFC 1929), client and server, on connections that the caller gives.
//
// What it keeps, whatever the peer sends: it reads exactly the octets of the
// handshake and never one more, because behind it another protocol begins,
// and in SMTP the far server speaks first; what it reads has a bound and a
// deadline; a credential is in no transcript and no error. Who may go where is
// decided by a Handler. The package logs nothing.
package socks
