// Package smtp is the wire of the smtp door: a session engine for servers, a
// delivering client, and a raw client for auditors, on connections that the
// caller gives them (RFC 5321 and the extensions of extensions.go).
//
// What it keeps, whatever the peer sends: as many replies as commands; no byte
// of a message is ever taken for a command; a message that was cut off is
// never handed over as whole; nothing that came before STARTTLS is used after
// it; what a transaction knew dies with it. Who may pass is decided by hooks.
// The package logs nothing.
package smtp
