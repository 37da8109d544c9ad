package verdict

import (
	"slices"
	"strings"

	"postern/mail"
)

// A Meaning is what a refusal is about, as far as its code and its words tell.
// One code stands for many reasons: 550 5.7.1 refuses relaying here, a stranger
// without a login there, and an address on a blocklist elsewhere.
type Meaning string

// The meanings. The empty one is that of words which tell nothing.
const (
	DeniesRelay Meaning = "relaying"     // this recipient, to strangers
	UnknownUser Meaning = "unknown user" // a mailbox that is missing in a domain that it serves
	UnknownHost Meaning = "domain"       // a domain that cannot be found
	WantsTLS    Meaning = "encryption"   // nothing without TLS (RFC 3207 section 4)
	WantsAuth   Meaning = "login"        // nothing without a login (RFC 4954 section 6)
	BlocksUs    Meaning = "our address"  // the client, whatever it sends
	BadContent  Meaning = "content"      // this message, whomever it is for
	TryLater    Meaning = "later"        // greylisting and limits
)

// meanings are the words of refusals, looked for in this order: "relaying
// denied, please authenticate" refuses relaying, and "domain does not exist"
// is about no user.
var meanings = []struct {
	means Meaning
	words []string
}{
	{DeniesRelay, []string{"relay", "rcpthosts", "non-local", "not local", "not a gateway", "third-party", "third party", "not our customer"}},
	{WantsTLS, []string{"starttls", "encryption", "tls required", "tls is required", "requires tls", "must use tls", "must be encrypted", "secure connection"}},
	{WantsAuth, []string{
		"authentication required", "authentication is required", "requires authentication", "require authentication", "auth required", "auth first", "authentication first", "send auth", "authenticate", "smtp auth",
		"need authentication", "need auth", "must auth", "without authentication", "unauthenticated", "authorization required", "log in", "login", "logged in", "identify yourself",
	}},
	{BlocksUs, blockWords},
	{BadContent, []string{"spam", "virus", "malware", "content", "unsolicited", "bulk", "junk", "header", "dkim", "dmarc"}},
	{TryLater, laterWords},
	{UnknownHost, []string{"domain not found", "host not found", "unknown domain", "no such domain", "host unknown", "domain does not exist"}},
	{UnknownUser, []string{
		"user unknown", "unknown user", "unknown local", "no such user", "no such mailbox", "no such recipient", "no such address", "no such person", "no such account", "no mailbox", "no user",
		"unknown recipient", "recipient unknown", "unknown mailbox", "unknown address", "address unknown", "user doesn", "not known here", "not our user",
		"user not found", "user does not exist", "recipient not found", "recipient does not exist", "mailbox not found", "mailbox does not exist", "account not found", "account does not exist",
	}},
}

// What speaks of us or of our address, and of no recipient.
var (
	blockWords = []string{
		"blacklist", "black list", "blocklist", "block list", "denylist", "spamhaus", "spamcop", "barracuda", "dnsbl", "rbl", "blocked", "your ip", "your address", "your host",
		"client host", "reputation", "banned", "dynamic", "reverse dns", "rdns",
	}
	senderWords = []string{"spf", "dkim", "dmarc", "sender"}
	clientWords = []string{"ptr", "hostname", "sender", "helo", "ehlo", "client", "reverse"}
)

// looseWords say that something is missing, and not what: a mailbox, or the
// name of our address in the DNS.
var looseWords = []string{"not found", "does not exist", "doesn't exist", "not exist"}

// laterWords are those of greylisting and limits.
var laterWords = []string{"grey", "gray", "try again", "retry", "come back", "later", "too many", "rate"}

// MeaningOf returns what a refusal is about. Where the words tell nothing the
// enhanced code does (RFC 3463, RFC 7505): many servers give 5.7.1 for
// whatever a rule of theirs refuses, and the words are what they chose to say.
func MeaningOf(r mail.Reply) Meaning {
	if r.IsZero() || r.Positive() {
		return ""
	}
	text := wordsOf(r)
	code := r.Enhanced
	if code.Subject == 1 && code.Detail == 1 && !strings.Contains(text, "relay") {
		return UnknownUser // no rule against strangers has this code
	}
	for _, m := range meanings {
		about := text
		if m.means == BlocksUs {
			about = linked(r) // many blocks are told by their link alone
		}
		if saysAny(about, m.words) && (m.means != UnknownUser || !saysAny(text, clientWords)) {
			if m.means == DeniesRelay && r.Transient() && looksGreylisted(r) {
				return TryLater // a limit on relaying
			}
			return m.means
		}
	}
	switch {
	case code == (mail.EnhancedCode{}) && saysAny(text, looseWords) && !saysAny(text, clientWords):
		return UnknownUser
	case code.Subject == 1 && (code.Detail == 2 || code.Detail == 10):
		return UnknownHost
	case code.Subject == 7 && (code.Detail == 10 || code.Detail == 11), r.Code == 523, r.Code == 538:
		return WantsTLS
	case r.Code == 530, code.Subject == 7 && code.Detail == 57:
		return WantsAuth
	case r.Code == 454:
		return DeniesRelay // no code of greylisting; Postfix's for relaying
	}
	return ""
}

// wordsOf returns the text of a reply in lower case without the addresses that
// it repeats and without links: user unknown at relay.example is no word about
// relaying, nor is https://blocklist.example/login one about logging in here.
func wordsOf(r mail.Reply) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(linked(r)), func(word string) bool {
		return strings.Contains(word, "://") || strings.HasPrefix(word, "www.")
	}), " ")
}

// linked is wordsOf with the links.
func linked(r mail.Reply) string {
	text := strings.ToLower(r.Text())
	for {
		before, rest, ok := strings.Cut(text, "<")
		inner, after, closed := strings.Cut(rest, ">")
		if !ok || !closed || strings.ContainsAny(inner, " \t") || strings.Contains(inner, "://") {
			break
		}
		text = before + " " + after
	}
	return strings.Join(slices.DeleteFunc(strings.Fields(text), func(word string) bool {
		return strings.Contains(word, "@") && !strings.Contains(word, "://")
	}), " ")
}

// saysAny reports whether one of the words stands in text.
func saysAny(text string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return says(text, w) })
}

// says reports whether the words stand in text, from the beginning of a word:
// "ptr" is not in "attribute", nor "rate" in "generate".
func says(text, words string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], words)
		if i < 0 {
			return false
		}
		if at := from + i; at == 0 || !letter(text[at-1]) {
			return true
		}
		from += i + 1
	}
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' }

// vague reports whether a refusal says only that there is no way to the
// recipient: Exim says so of a user that it does not know, OpenSMTPD of that
// and of relaying.
func vague(r mail.Reply) bool {
	text := wordsOf(r)
	for _, words := range []string{"unrouteable", "unroutable", "invalid recipient", "recipient rejected", "address rejected", "mailbox unavailable", "no route"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}
