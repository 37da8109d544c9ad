package bounce

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"postern/mail"
)

// The width of what people read.
const width = 72

// words is the part that people read.
func (n Notice) words(header mail.Header) part {
	var b bytes.Buffer
	say := func(indent, s string) {
		for _, line := range wrap(s, width-len(indent)) {
			b.WriteString(strings.TrimRight(indent+line, " ") + "\r\n")
		}
	}
	say("", n.opening())
	say("", "")
	if s := original(header); s != "" {
		say("  ", "Subject: "+s)
	}
	if !n.Arrived.IsZero() {
		say("  ", "Sent:    "+n.Arrived.Format("Monday, 2 January 2006, 15:04 MST"))
	}
	for _, r := range n.Recipients {
		say("", "")
		say("  ", "To: "+visible(r.To.Path.Address().String(), true))
		for _, s := range n.tell(r) {
			say("      ", s)
		}
		quote, from := r.Reply.String(), "Its server"
		if quote == "" {
			quote, from = r.Note, "What we noted"
		} else if r.RemoteMTA != "" {
			from = "The server " + visible(shorten(r.RemoteMTA, 300), true)
		}
		if quote == "" {
			continue
		}
		if r.Reply.IsZero() {
			say("      ", from+":")
		} else {
			say("      ", from+" answered:")
		}
		say("        > ", visible(shorten(quote, maxQuote), true))
	}
	say("", "")
	say("", "This was written by the mail server "+n.Host+". Answers to it reach the people who run it.")
	return encode("text/plain; charset=utf-8", b.Bytes())
}

func (n Notice) opening() string {
	one := len(n.Recipients) == 1
	switch n.Kind {
	case Failed:
		if one {
			return "Your message could not be delivered to the recipient below. It is not being tried any more."
		}
		return "Your message could not be delivered to the recipients below. It is not being tried any more. This says nothing of others to whom you sent it."
	case Delayed:
		return "Your message has not been delivered yet. You need not send it again: we go on trying, and you will hear from us if we give up."
	case Delivered:
	}
	return "Your message was delivered, as you asked to be told."
}

// tell says what happened, whose side it is on, and what to do.
func (n Notice) tell(r Recipient) []string {
	switch n.action(r) {
	case ActionDelivered:
		return []string{"It is in the mailbox, or with the server that keeps it."}
	case ActionRelayed:
		return []string{"It was handed on to a server that does not confirm deliveries. You will hear of it only if it fails there."}
	case ActionExpanded:
		return []string{"It was handed on to the members of a list."}
	case ActionFailed, ActionDelayed:
	}
	c := Classify(r.Reply, r.Note)
	list := []string{c.What()}
	if n.action(r) == ActionDelayed {
		if c != Greylisted {
			list = append(list, side(c.Side()))
		}
		until := "We go on trying."
		if !r.RetryUntil.IsZero() {
			until = "We go on trying until " + r.RetryUntil.Format("Monday, 2 January 2006, 15:04 MST") + "."
		}
		return append(list, until)
	}
	if took := r.LastAttempt.Sub(n.Arrived); !r.Reply.Permanent() && !n.Arrived.IsZero() && took >= time.Hour {
		list = append(list, "We tried for "+spell(took)+".")
	}
	return append(list, side(c.Side()), "What to do: "+c.Advice())
}

func side(s Side) string {
	switch s {
	case SideSender:
		return "You can mend this yourself."
	case SideRecipient:
		return "Only the recipient can mend this."
	case SideProvider:
		return "Only the recipient's mail provider can mend this."
	case SideOurs:
		return "The people who run our mail server have to mend this."
	case SideNetwork:
		return "The trouble is on the way between the two servers."
	case SideUnknown:
	}
	return "Who can mend this cannot be told from the answer."
}

// spell writes a duration of an hour or more in the largest unit that fits.
func spell(d time.Duration) string {
	n, unit := int(d/(24*time.Hour)), "day"
	if n == 0 {
		n, unit = int(d/time.Hour), "hour"
	}
	if n == 1 {
		return "one " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
