// Package connect is the wire of the connect door: HTTP proxying as strangers
// abuse it for mail. CONNECT over HTTP/1.0, HTTP/1.1 (RFC 9110 section 9.3.6)
// and HTTP/2 (RFC 9113 section 8.5), and POST or PUT to an absolute URI whose
// body is the client's half of a conversation; client and server, on
// connections that the caller gives.
//
// What it keeps, whatever the peer sends: no octet behind the blank line is
// lost; one connection of HTTP/1 carries one request, so that no two readers
// can disagree on where the next begins, and of HTTP/2, whose frames say it,
// one stream does; what is read of a head has a bound and a deadline; a
// credential is in no transcript and no error. Who may go where is decided by
// a Handler. The package logs nothing.
//
// The frames of HTTP/2 are the standard library's. It cannot end the server's
// half of a stream while the client's goes on; so a client whose destination
// has ended first is told when it ends too, or after Limits.Half.
package connect
