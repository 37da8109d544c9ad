// Package collect is the other end of a check: it takes the messages that
// prove a server open, and nothing else. A recipient is accepted only if it
// carries a live token of the collector's own, so a collector can be used by
// strangers neither as a mailbox nor as a relay, and it keeps of a message no
// more than its header section, its size and a hash.
//
// Arrivals are seen in one of three places, which a check uses alike: Local is
// a collector in this process, Remote one that is asked over HTTPS, Mailbox an
// IMAP mailbox that somebody else keeps. Zone is the collector's own DNS.
//
// Constructors start nothing; Run does, and returns when all has ended.
package collect
