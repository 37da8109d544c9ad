package smtp

import "time"

// Limits bound what one client, and all of them, can make the server hold or
// wait for. A zero field takes the value of DefaultLimits, a negative one
// means no limit.
type Limits struct {
	Connections int // at once, all clients; beyond: 421
	PerClient   int // at once from one address (IPv6: one /64); beyond: 421
	PerNetwork  int // at once from one /24 (IPv6: one /56); beyond: 421
	PerSite     int // at once from one /48 of IPv6, which one customer may have; beyond: 421
	Errors      int // replies of class 5 in one session; beyond: 421
	AuthErrors  int // refused AUTH commands in one session; beyond: 421
	Messages    int // transactions in one session; beyond: 421 (LIMITS MAILMAX)
	Fruitless   int // NOOP, RSET, HELP, VRFY, EXPN, EHLO and HELO in one session since its last message; beyond: 421
	Recipients  int // accepted in one transaction; beyond: 452 (LIMITS RCPTMAX)

	MessageSize int64 // octets, line ends included; beyond: 552 (SIZE)
	TextLine    int   // octets of a line in a message without its CRLF; beyond: 550
	CommandLine int   // octets of a command with its CRLF; beyond: 500
	AuthLine    int   // octets of an AUTH command or response with its CRLF; beyond: 500

	Idle      time.Duration // until the first octet of the next command
	Command   time.Duration // from there to its line end
	Barren    time.Duration // of a session, since its beginning or its last message; beyond: 421
	DataIdle  time.Duration // between two segments of a message
	DataTotal time.Duration // for a whole message
	DataRate  int64         // octets a second that a message must make on average, after DataIdle
	Write     time.Duration // for a reply to leave
	Handshake time.Duration // for TLS to be made
	Drain     time.Duration // for running transactions after Run's context has ended
}

// DefaultLimits fit a public server of one machine.
var DefaultLimits = Limits{
	Connections: 2000,
	PerClient:   20,
	PerNetwork:  50,
	PerSite:     200,
	Errors:      20,
	AuthErrors:  3,
	Messages:    100,
	Fruitless:   100,
	Recipients:  100, // RFC 5321 section 4.5.3.1.8: the least that must be taken

	MessageSize: 25 << 20,
	TextLine:    998,   // RFC 5321 section 4.5.3.1.6
	CommandLine: 2048,  // RFC 5321 section 4.5.3.1.4: 512, and what extensions add (DSN alone adds 500 to RCPT)
	AuthLine:    12288, // RFC 4954 section 4

	Idle:      5 * time.Minute, // RFC 5321 section 4.5.3.2.7
	Command:   time.Minute,
	Barren:    30 * time.Minute,
	DataIdle:  3 * time.Minute, // RFC 5321 section 4.5.3.2.5
	DataTotal: 30 * time.Minute,
	DataRate:  500,
	Write:     time.Minute,
	Handshake: time.Minute,
	Drain:     30 * time.Second,
}

// WithDefaults returns l with its zero fields filled.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits
	pick(&l.Connections, d.Connections)
	pick(&l.PerClient, d.PerClient)
	pick(&l.PerNetwork, d.PerNetwork)
	pick(&l.PerSite, d.PerSite)
	pick(&l.Errors, d.Errors)
	pick(&l.AuthErrors, d.AuthErrors)
	pick(&l.Messages, d.Messages)
	pick(&l.Fruitless, d.Fruitless)
	pick(&l.Recipients, d.Recipients)
	pick(&l.MessageSize, d.MessageSize)
	pick(&l.TextLine, d.TextLine)
	pick(&l.CommandLine, d.CommandLine)
	pick(&l.AuthLine, d.AuthLine)
	pick(&l.Idle, d.Idle)
	pick(&l.Command, d.Command)
	pick(&l.Barren, d.Barren)
	pick(&l.DataIdle, d.DataIdle)
	pick(&l.DataTotal, d.DataTotal)
	pick(&l.DataRate, d.DataRate)
	pick(&l.Write, d.Write)
	pick(&l.Handshake, d.Handshake)
	pick(&l.Drain, d.Drain)
	return l
}

func pick[T ~int | ~int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// over reports whether n is more than limit allows.
func over[T ~int | ~int64](n, limit T) bool { return limit >= 0 && n > limit }
