package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// checkDisk: there is room beyond the reserve, below which mail is answered 452.
func checkDisk(_ context.Context, s Server, m Machine) []Finding {
	if s.State == "" {
		return nil
	}
	at, err := m.Disk(s.State)
	if err != nil {
		return []Finding{{Level: Problem, What: err.Error(), Do: "see that the folder is there and this user may enter it"}}
	}
	reserve := max(s.Reserve, at.Total/100*uint64(min(max(s.ReservePercent, 0), 100)))
	what := fmt.Sprintf("%s free of %s where %s lies; %s are kept in reserve", bytesInWords(at.Free), bytesInWords(at.Total), s.State, bytesInWords(reserve))
	switch {
	case at.Free < reserve:
		return []Finding{{Level: Problem, What: what + ", so new mail is answered 452", Do: "make room there, or lower disk_reserve"}}
	case at.Free < 2*reserve:
		return []Finding{{Level: Warning, What: what, Do: "make room there before mail is answered 452"}}
	}
	return []Finding{{Level: OK, What: what}}
}

// What a relay should have: below it works, and tells many to come again.
const (
	leastMemory      = 256 << 20
	leastDescriptors = 1024
)

// checkMeans: memory and descriptors carry what a relay is there for. Those of
// the service may differ from those of this command.
func checkMeans(_ context.Context, _ Server, m Machine) []Finding {
	var all []Finding
	if n := m.Means.Memory; n > 0 {
		whose := "of this machine"
		if m.Means.Group {
			whose = "of the control group"
		}
		f := Finding{Level: OK, What: fmt.Sprintf("%s of memory %s", bytesInWords(uint64(n)), whose)}
		if n < leastMemory {
			f.Level, f.What, f.Do = Warning, f.What+" carry few connections and slow the queue down", "give it 256 MiB or more"
		}
		all = append(all, f)
	}
	if n := m.Means.Descriptors; n > 0 && n < leastDescriptors {
		all = append(all, Finding{Level: Warning, What: fmt.Sprintf("a process may have %d descriptors: connections beyond about half of them are told to come again", n), Do: "raise LimitNOFILE of the service, or ulimit -n"})
	}
	return all
}

func bytesInWords(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, names := float64(n)/unit, "KMGTPE"
	for value >= unit && len(names) > 1 {
		value, names = value/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, names[0])
}

// checkClock says only what the kernel says: nobody else is asked.
func checkClock(_ context.Context, _ Server, m Machine) []Finding {
	c, err := m.Clock()
	switch {
	case err != nil:
		return []Finding{{Level: Note, What: fmt.Sprintf("not decided: %v", err)}}
	case !c.Synchronised:
		return []Finding{{
			Level: Warning, What: "nothing keeps the clock right: signatures, tokens and the age of mail go by it",
			Do: "timedatectl set-ntp true",
		}}
	case c.Error > maxClockError:
		return []Finding{{Level: Warning, What: fmt.Sprintf("the clock may be off by %s", c.Error.Round(time.Millisecond)), Do: "see that the time service reaches its servers"}}
	}
	return []Finding{{Level: OK, What: fmt.Sprintf("the clock is kept right, to about %s", c.Error)}}
}

// maxClockError is far below what any signature or token allows, and far above
// what a time service that works leaves.
const maxClockError = time.Second

// outgoingPatience is how long a server of others may take to answer: a
// provider that blocks port 25 lets the packets vanish.
const outgoingPatience = 10 * time.Second

// checkOutgoing tries port 25 of one server that a person named: many
// providers block it.
func checkOutgoing(ctx context.Context, s Server, m Machine) []Finding {
	if s.Outgoing == "" {
		return nil
	}
	hosts, err := m.DNS.Exchangers(ctx, s.Outgoing)
	if err != nil || len(hosts) == 0 {
		return []Finding{{Level: Note, What: fmt.Sprintf("not decided: whether mail can leave: %v", err), Do: "name a domain that takes mail"}}
	}
	addresses, err := m.DNS.Addresses(ctx, hosts[0])
	if len(addresses) == 0 {
		return []Finding{{Level: Note, What: fmt.Sprintf("not decided: whether mail can leave: %v", err), Do: "name a domain that takes mail"}}
	}
	var failed []string
	for _, a := range addresses[:min(len(addresses), 4)] {
		to := netip.AddrPortFrom(a, 25).String()
		if err := reach(ctx, m.Dial, to); err != nil {
			failed = append(failed, err.Error())
			continue
		}
		return []Finding{{Level: OK, What: fmt.Sprintf("%s (%s) answers: mail can leave through port 25", to, hosts[0])}}
	}
	return []Finding{{
		Level: Problem, What: fmt.Sprintf("port 25 of %s is not reached: %s", hosts[0], strings.Join(failed, "; ")),
		Do: "ask the provider whether it blocks outgoing port 25 (many do until asked), or send through a smarthost on port 465 or 587",
	}}
}

func reach(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), to string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, outgoingPatience, errPatience)
	defer cancel()
	conn, err := dial(ctx, "tcp", to)
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}
