package transcript

import "bytes"

// hidden stands where a credential was.
const hidden = "(hidden)"

// A censor watches one direction of a conversation byte by byte, so that no
// way of cutting a line into segments gets past it. It takes out what follows
// "AUTH mechanism" on its line, and, until the other side has given its final
// reply, each line after that: the responses of RFC 4954 section 4. A body
// line that begins so is hidden too; that loses a line of evidence and keeps
// the promise.
type censor struct {
	word     int    // how many words of the line have begun; counts to 4
	inWord   bool   // the last byte belonged to a word
	match    int    // how much of "AUTH" the first word has matched, -1: it is another
	hiding   bool   // in a stretch that is replaced; its mark is written
	exchange bool   // an AUTH command was sent and has no final reply yet
	seen     bool   // an AUTH command was ever sent
	reply    []byte // the first bytes of the other side's line
}

const verb = "AUTH"

// pass returns what of p may be kept.
func (c *censor) pass(p []byte) []byte {
	if c.plain(p) {
		return p
	}
	out := make([]byte, 0, len(p))
	for _, b := range p {
		switch {
		case b == '\n':
			c.endLine()
			out = append(out, b)
		case b == '\r': // within a line it ends nothing: what follows may still be the credential
			c.inWord = false
			out = append(out, b)
		case c.secret(b):
			if !c.hiding {
				out = append(out, hidden...)
				c.hiding = true
			}
		default:
			out = append(out, b)
		}
	}
	return out
}

// plain reports that p is whole lines none of which begins with an A: the way
// by which nearly everything passes, without a copy.
func (c *censor) plain(p []byte) bool {
	if c.exchange || c.word > 0 || p[len(p)-1] != '\n' {
		return false
	}
	for line := range bytes.Lines(p) {
		if line[0] == 'A' || line[0] == 'a' || line[0] == ' ' || line[0] == '\r' {
			return false
		}
	}
	return true
}

// secret moves over one byte inside a line and reports whether it is one.
func (c *censor) secret(b byte) bool {
	if c.exchange {
		return true
	}
	if b == ' ' || b == '\t' {
		c.inWord = false
		return false
	}
	if !c.inWord {
		c.inWord = true
		if c.word < 4 {
			c.word++
		}
	}
	if c.word == 1 && c.match >= 0 {
		if c.match < len(verb) && b&^0x20 == verb[c.match] {
			c.match++
		} else {
			c.match = -1
		}
	}
	return c.word >= 3 && c.match == len(verb)
}

func (c *censor) endLine() {
	// A command of two or three words may open an exchange; more words are
	// prose in a message.
	if c.match == len(verb) && (c.word == 2 || c.word == 3) {
		c.exchange, c.seen = true, true
	}
	c.word, c.inWord, c.match, c.hiding = 0, false, 0, false
}

// heard looks at what the other side said: its final reply ends the exchange.
// A challenge reopens one, because the final reply may have been that to an
// earlier command of the same group.
func (c *censor) heard(p []byte) {
	if !c.seen {
		return
	}
	for _, b := range p {
		if b != '\n' {
			if len(c.reply) < 4 {
				c.reply = append(c.reply, b)
			}
			continue
		}
		switch {
		case bytes.HasPrefix(c.reply, []byte("334")):
			c.exchange = true
		case len(c.reply) >= 3 && c.reply[0] != '3' && (len(c.reply) == 3 || c.reply[3] != '-'):
			c.exchange = false
		}
		c.reply = c.reply[:0]
	}
}
