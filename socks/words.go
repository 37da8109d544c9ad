package socks

import (
	"errors"
	"fmt"

	"postern/forward"
)

// A Command is what a client asks for.
type Command uint8

// The commands of RFC 1928 section 4; SOCKS 4 has the first two.
const (
	Connect Command = iota + 1
	Bind
	UDPAssociate
)

func (c Command) String() string {
	switch c {
	case Connect:
		return "CONNECT"
	case Bind:
		return "BIND"
	case UDPAssociate:
		return "UDP ASSOCIATE"
	}
	return fmt.Sprintf("command %#02x", uint8(c))
}

// A Method is how a client of SOCKS 5 shows who it is (RFC 1928 section 3).
type Method uint8

// The methods. 0x80 to 0xFE are for private use.
const (
	NoAuth       Method = 0x00
	GSSAPI       Method = 0x01
	UserPassword Method = 0x02 // RFC 1929
	NoMethod     Method = 0xFF // none of those that were offered
)

func (m Method) String() string {
	switch m {
	case NoAuth:
		return "no authentication"
	case GSSAPI:
		return "GSSAPI"
	case UserPassword:
		return "user and password"
	case NoMethod:
		return "no acceptable method"
	}
	return fmt.Sprintf("method %#02x", uint8(m))
}

// A Code is the answer to a request. Those of SOCKS 4 and 5 do not overlap.
type Code uint8

// The codes of SOCKS 5 (RFC 1928 section 6) and of SOCKS 4.
const (
	Succeeded          Code = 0
	GeneralFailure     Code = 1
	NotAllowed         Code = 2
	NetworkUnreachable Code = 3
	HostUnreachable    Code = 4
	ConnectionRefused  Code = 5
	TTLExpired         Code = 6
	NoSuchCommand      Code = 7
	NoSuchAddressType  Code = 8

	Granted4  Code = 90
	Rejected4 Code = 91
	NoIdent4  Code = 92
	BadIdent4 Code = 93
)

// Granted reports whether the code is a yes.
func (c Code) Granted() bool { return c == Succeeded || c == Granted4 }

func (c Code) String() string {
	switch c {
	case Succeeded:
		return "succeeded"
	case GeneralFailure:
		return "general failure"
	case NotAllowed:
		return "not allowed by ruleset"
	case NetworkUnreachable:
		return "network unreachable"
	case HostUnreachable:
		return "host unreachable"
	case ConnectionRefused:
		return "connection refused"
	case TTLExpired:
		return "TTL expired"
	case NoSuchCommand:
		return "command not supported"
	case NoSuchAddressType:
		return "address type not supported"
	case Granted4:
		return "granted"
	case Rejected4:
		return "rejected or failed"
	case NoIdent4:
		return "rejected: no identd on the client"
	case BadIdent4:
		return "rejected: identd names another user"
	}
	return fmt.Sprintf("code %#02x", uint8(c))
}

// What a handshake can come to beside a reply; test with errors.Is. That it
// did not come in time is forward.ErrTimeout, that the server hung up
// forward.ErrClosed.
var (
	ErrNotSOCKS    = errors.New("not a SOCKS answer")
	ErrNoMethod    = errors.New("the server accepts none of the offered methods")
	ErrBadMethod   = errors.New("the server chose a method that was not offered or is not spoken here")
	ErrLoginWanted = errors.New("the server wants a user and a password")
	ErrAuth        = errors.New("the server refused user and password")
	ErrRequest     = errors.New("this cannot be said in SOCKS")
)

// A ReplyError is a reply that was not a yes.
type ReplyError struct {
	Command Command
	Code    Code
}

func (e *ReplyError) Error() string { return fmt.Sprintf("SOCKS %s: %s", e.Command, e.Code) }

// A Reply is the server's answer to a request.
type Reply struct {
	Code   Code
	Bound  forward.Address // what the server says that it uses; often 0.0.0.0:0
	Method Method          // which one it chose; NoAuth in SOCKS 4
}
