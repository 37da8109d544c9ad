// Package door lists the four doors by which a stranger's mail can leave through a machine, the
// three sides on which Postern stands at each, and the ports where a door is looked for. Nothing
// else decides what exists: the house test compares this list with the folders.
package door

import "fmt"

// Door is one way out for a stranger's mail. The zero Door is none.
type Door uint8

const (
	SMTP    Door = iota + 1 // a mail server that carries anybody's mail
	SOCKS                   // a SOCKS 4, 4a or 5 proxy that reaches port 25
	Forward                 // port 25 forwarded to a server that trusts the forwarder
	Connect                 // an HTTP proxy whose CONNECT or POST reaches port 25
)

// Side is how one stands at a door. The zero Side is none.
type Side uint8

const (
	Open  Side = iota + 1 // lab: says yes to everybody
	Guard                 // serve: says yes to those who hold a grant
	Probe                 // check: the stranger who tries
)

// doors is the one list: order of display, name, what is built, where one knocks.
var doors = [...]struct {
	door  Door
	name  string
	built []Side
	ports []uint16
}{
	// 2525 is no registered port; hosts that have 25 blocked upstream commonly listen there.
	{SMTP, "smtp", []Side{Open, Guard, Probe}, []uint16{25, 465, 587, 2525}},
	{SOCKS, "socks", []Side{Open, Guard, Probe}, []uint16{1080, 1081, 9050, 10808}},
	{Forward, "forward", []Side{Open, Guard, Probe}, []uint16{25, 465, 587, 2525}},
	{Connect, "connect", []Side{Open, Guard, Probe}, []uint16{3128, 8080, 8118, 8888, 80, 8443, 443}},
}

// All returns the doors in their order of display.
func All() []Door {
	all := make([]Door, len(doors))
	for i, d := range doors {
		all[i] = d.door
	}
	return all
}

// Sides returns the three sides.
func Sides() []Side { return []Side{Open, Guard, Probe} }

// Parse returns the door of that name.
func Parse(name string) (Door, error) {
	for _, d := range doors {
		if d.name == name {
			return d.door, nil
		}
	}
	return 0, fmt.Errorf("door %q: unknown; the doors are smtp, socks, forward and connect", name)
}

// Ports returns the ports where the door is looked for when nobody names one. Two doors may share
// a port: a forwarded port 25 looks like a mail server until the mail's way back is seen.
func (d Door) Ports() []uint16 {
	for _, e := range doors {
		if e.door == d {
			return append([]uint16(nil), e.ports...)
		}
	}
	return nil
}

// Built reports whether the side is built at this door.
func (d Door) Built(s Side) bool {
	for _, e := range doors {
		if e.door != d {
			continue
		}
		for _, b := range e.built {
			if b == s {
				return true
			}
		}
	}
	return false
}

func (d Door) String() string {
	for _, e := range doors {
		if e.door == d {
			return e.name
		}
	}
	return "none"
}

// MarshalText writes the door's name; a door that is none cannot be written.
func (d Door) MarshalText() ([]byte, error) {
	if d.String() == "none" {
		return nil, fmt.Errorf("door %d: not a door", uint8(d))
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *Door) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

func (s Side) String() string {
	switch s {
	case Open:
		return "open"
	case Guard:
		return "guard"
	case Probe:
		return "probe"
	}
	return "none"
}
