package guard

import (
	"bytes"
	"fmt"
	"io"

	"postern/mail"
)

// An Offer is what the next hop of a domain said that it takes, in its reply to
// EHLO. What it does not take is refused before we have it: of what fails later
// nobody could be told.
type Offer struct {
	UTF8     bool  // SMTPUTF8 (RFC 6531)
	EightBit bool  // 8BITMIME (RFC 6152)
	Size     int64 // octets of a message (RFC 1870); 0: it named no limit
}

// both is what two hops take.
func (o Offer) both(p Offer) Offer {
	least := min(o.Size, p.Size)
	if least == 0 {
		least = max(o.Size, p.Size)
	}
	return Offer{UTF8: o.UTF8 && p.UTF8, EightBit: o.EightBit && p.EightBit, Size: least}
}

// anything is the offer of hops that were not heard.
var anything = Offer{UTF8: true, EightBit: true}

// fits says why a recipient's next hop cannot take the transaction, as far as it
// is known at RCPT.
func (v *session) fits(to mail.Address) mail.Reply {
	if v.server.Mailboxes == nil {
		return mail.Reply{}
	}
	o, heard := v.server.Mailboxes.Offers(to.Domain())
	if !heard {
		return mail.Reply{}
	}
	switch {
	case !o.UTF8 && (to.ALabels().NeedsUTF8() || v.from.Address().ALabels().NeedsUTF8()):
		return mail.NewReply(553, "5.6.7", "The server of this mailbox takes no international addresses")
	case o.Size > 0 && v.params.Size > o.Size:
		return tooLarge(o.Size)
	}
	v.hops = v.hops.both(o)
	return mail.Reply{}
}

func tooLarge(most int64) mail.Reply {
	return mail.NewReply(552, "5.3.4", fmt.Sprintf("Message is larger than the %d octets that the server of this mailbox takes", most))
}

// fitsHeader says why no next hop that lacks SMTPUTF8 could take the header.
// What a client says of every message counts only where the message needs it.
func (v *session) fitsHeader(f []field) mail.Reply {
	for _, each := range f {
		if v.params.UTF8 && !v.hops.UTF8 && has8Bits(each.raw) {
			return v.refuse(CauseHop, mail.NewReply(554, "5.6.9", "The server of this mailbox takes no header in UTF-8: header "+each.name()))
		}
	}
	return mail.Reply{}
}

func has8Bits(b []byte) bool { return bytes.ContainsFunc(b, func(r rune) bool { return r >= 0x80 }) }

// fitting reads a message as long as the next hops can take it.
func (v *session) fitting(m io.Reader) io.Reader {
	seven := v.params.Body == mail.Body8BitMIME && !v.hops.EightBit
	if !seven && v.hops.Size == 0 {
		return m
	}
	return &fitting{m: m, seven: seven, most: v.hops.Size}
}

type fitting struct {
	m     io.Reader
	seven bool  // no octet above 127
	most  int64 // octets; 0: no limit
	n     int64
}

func (f *fitting) Read(b []byte) (int, error) {
	n, err := f.m.Read(b)
	f.n += int64(n)
	switch {
	case f.most > 0 && f.n > f.most:
		return 0, unfit{tooLarge(f.most)}
	case f.seven && has8Bits(b[:n]):
		return 0, unfit{mail.NewReply(554, "5.6.3", "The server of this mailbox takes seven bits only; encode the message")}
	}
	return n, err
}

// An unfit message is refused in these words.
type unfit struct{ reply mail.Reply }

func (u unfit) Error() string     { return u.reply.String() }
func (u unfit) Reply() mail.Reply { return u.reply }
