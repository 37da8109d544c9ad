package forward

import "time"

// Limits bound what one client, and all of them, can make a server of tunnels
// hold or wait for. A zero field takes the value of DefaultLimits, a negative
// one means no limit.
type Limits struct {
	Connections int // at once, all clients; beyond: closed without a word
	PerClient   int // at once from one address (IPv6: one /64); beyond: the same

	Request time.Duration // for the client's handshake to be whole
	Dial    time.Duration // for the connection to the destination
	Idle    time.Duration // without an octet in either direction of a tunnel
	Half    time.Duration // for what is still on its way, where one end has ended and the other cannot be told so without closing it
}

// DefaultLimits fit a gateway of one machine.
var DefaultLimits = Limits{
	Connections: 2000,
	PerClient:   50,

	Request: 30 * time.Second,
	Dial:    30 * time.Second,
	Idle:    10 * time.Minute, // RFC 5321 section 4.5.3.2.6: an SMTP server may be silent so long before it answers to a message
	Half:    5 * time.Second,
}

// WithDefaults returns l with its zero fields filled.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits
	pick(&l.Connections, d.Connections)
	pick(&l.PerClient, d.PerClient)
	pick(&l.Request, d.Request)
	pick(&l.Dial, d.Dial)
	pick(&l.Idle, d.Idle)
	pick(&l.Half, d.Half)
	return l
}

func pick[T ~int | ~int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
