package guard

import (
	"net/netip"
	"time"

	"postern/mail"
	"postern/policy"
)

// A Kind says what an Event is about.
type Kind string

// The kinds.
const (
	Connected   Kind = "connected"
	Refused     Kind = "refused"      // a command was answered with a refusal
	Accepted    Kind = "accepted"     // a message is stored
	NotStored   Kind = "not_stored"   // a message was granted and could not be stored
	LoggedIn    Kind = "logged_in"    // a login succeeded
	LoginFailed Kind = "login_failed" // a login was refused
	Withdrawn   Kind = "withdrawn"    // trust in a client was withdrawn
	Held        Kind = "held"         // a message is stored and held
	OverBudget  Kind = "over_budget"  // what follows will be held
	Carried     Kind = "carried"      // what a tunnel has carried since it was last told of
	Closed      Kind = "closed"
)

// An Event is one fact of a session, for logs and counters. It holds no secret.
type Event struct {
	Kind     Kind
	Session  string // id of the connection
	Message  string // id of the transaction; that of the connection before the first one
	Listener string
	Role     policy.Role
	Peer     netip.Addr
	Helo     string
	Identity string
	TLS      bool

	From   mail.ReversePath
	To     mail.ForwardPath
	Grants []policy.Grant
	Cause  string // of a refusal: the policy's cause, or one of ours
	Reply  mail.Reply
	Why    string // for the operator
	Size   int64
	Took   time.Duration
	Err    error
}

// What guard itself refuses, beside the policy's causes.
const (
	CauseRate    = "rate"
	CauseEarly   = "early_talker"
	CauseHeader  = "header"
	CauseLoop    = "loop"
	CauseBudget  = "budget"
	CauseRoom    = "no_room"
	CauseMemory  = "no_memory"
	CauseLookup  = "lookup_failed"
	CauseGuesses = "unknown_mailboxes"
	CauseStore   = "store"
	CauseHop     = "next_hop" // the server of the mailbox cannot take it
)
