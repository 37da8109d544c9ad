package serve

import (
	"fmt"

	"postern/internal/machine"
	"postern/internal/problem"
	"postern/smtp"
)

// A share is what each part of the relay may take of the machine, so that all
// of them together find enough: limits that a machine cannot carry are none.
type share struct {
	store  int64 // octets of the queue's tables and cache
	flight int64 // octets of messages that come in
	heap   int64 // octets of all else, for the collector of garbage; 0: no limit

	connections int // at once, of each listener
	tunnels     int // at once, of each gateway
	deliveries  int // attempts at once
}

// What things cost, roughly and rather too much.
const (
	ownDescriptors  = 64 // the store, the log, sockets that are asked
	listenerCosts   = 4  // its socket, a copy, and both once more while a reload replaces it
	tunnelCosts     = 6  // both connections, and a pipe for each direction
	connectionOctet = 64 << 10
	tunnelOctets    = 64 << 10
	deliveryOctets  = 256 << 10
)

// The most that is of use.
const (
	mostStore  = 288 << 20
	mostFlight = 512 << 20
	leastPart  = 8 // of anything, on whatever machine
)

// divide gives each part its share. What nobody can say has no limit.
func divide(m machine.Means, s *Settings) share {
	listeners, gateways := max(len(s.Listeners), 1), len(s.Gateways)
	h := share{
		connections: limitOf(s.Engine.Connections, smtp.DefaultLimits.Connections),
		tunnels:     gatewayLimits.Connections,
		deliveries:  limitOf(s.Delivery.Total, 500),
		store:       mostStore, flight: mostFlight,
	}
	atMost := func(n *int, most int64) { *n = int(min(int64(*n), max(most, leastPart))) }
	if m.Descriptors > 0 {
		free := int64(m.Descriptors - ownDescriptors - listenerCosts*len(s.Ports()))
		out := free / 4
		if gateways > 0 {
			atMost(&h.tunnels, out/tunnelCosts/int64(gateways))
			free -= out
		}
		atMost(&h.deliveries, out)
		atMost(&h.connections, (free-out)/int64(listeners))
	}
	if m.Memory > 0 {
		part := m.Memory / 8
		// The store's tables lie outside of the heap, and what was freed of them
		// is not given back at once.
		h.store, h.flight = min(mostStore, part/2), min(mostFlight, part)
		h.heap = m.Memory - m.Memory/8 - 4*h.store
		atMost(&h.connections, 2*part/connectionOctet/int64(listeners))
		atMost(&h.deliveries, part/deliveryOctets)
		if gateways > 0 {
			atMost(&h.tunnels, part/tunnelOctets/int64(gateways))
		}
	}
	return h
}

// limitOf is what holds of a limit that may not be written.
func limitOf(written, otherwise int) int {
	switch {
	case written == 0:
		return otherwise
	case written < 0:
		return 1 << 30
	}
	return written
}

// short warns of limits that the machine does not carry.
func (h share) short(m machine.Means, s *Settings) error {
	want := limitOf(s.Engine.Connections, smtp.DefaultLimits.Connections)
	if h.connections >= want {
		return nil
	}
	return problem.Warn(problem.Pos{File: s.File},
		fmt.Sprintf("limits: connections is %d, and %s carry %d for each listener: so many are served at once, and others are told to come again", want, inWords(m), h.connections),
		"raise LimitNOFILE of the service (ulimit -n), give it more memory, or lower connections in limits")
}

func inWords(m machine.Means) string {
	text := fmt.Sprintf("%d descriptors", m.Descriptors)
	if m.Memory > 0 {
		text += fmt.Sprintf(" and %d MiB of memory", m.Memory>>20)
	}
	return text
}

// HeapLimit is how much memory the program may take besides what the queue
// holds outside of the heap; 0: nobody says.
func (r *Relay) HeapLimit() int64 { return divide(r.means, &r.current.Load().settings).heap }
