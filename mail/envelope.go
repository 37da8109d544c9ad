package mail

// A Body says what a message's lines may hold: the BODY parameter of MAIL
// (RFC 6152, RFC 3030). The zero value means that none was given: seven bits.
type Body string

// The bodies that the parameter names.
const (
	Body7Bit     Body = "7BIT"
	Body8BitMIME Body = "8BITMIME"
	BodyBinary   Body = "BINARYMIME"
)

// A Ret says how much of a message a failure notice returns (RFC 3461 section 4.3).
type Ret string

// The values of RET.
const (
	RetFull    Ret = "FULL"
	RetHeaders Ret = "HDRS"
)

// A Notify is the set of occasions for a notice (RFC 3461 section 4.1). The
// zero value means that the parameter was absent.
type Notify uint8

// The occasions; NotifyNever excludes the others.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// SenderParams are the parameters of MAIL that Postern knows.
type SenderParams struct {
	Size       int64  // octets as declared by the client (RFC 1870); 0: not declared
	Body       Body   // RFC 6152, RFC 3030
	UTF8       bool   // SMTPUTF8 (RFC 6531)
	Ret        Ret    // RFC 3461 section 4.3
	EnvID      string // RFC 3461 section 4.4, still encoded as xtext
	Auth       string // RFC 4954 section 5, still encoded as xtext; it grants nothing
	RequireTLS bool   // RFC 8689
}

// RecipientParams are the parameters of RCPT that Postern knows (RFC 3461).
type RecipientParams struct {
	Notify Notify
	ORcpt  string // original recipient, still encoded: addr-type ";" xtext
}

// A Recipient is one accepted forward-path and its parameters.
type Recipient struct {
	Path   ForwardPath
	Params RecipientParams
}

// An Envelope is all that travels beside a message (RFC 5321 section 2.3.1).
type Envelope struct {
	From   ReversePath
	Sender SenderParams
	To     []Recipient
}
