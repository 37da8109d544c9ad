package collect

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

var (
	headSection = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true, Partial: &imap.SectionPartial{Size: maxHeader}}
	bodySection = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText, Peek: true, Partial: &imap.SectionPartial{Size: maxScan}}
)

// fetch looks at the headers of messages, and into those that may be notices.
func (m *Mailbox) fetch(c *imapclient.Client, uids []imap.UID) error {
	var set imap.UIDSet
	set.AddNum(uids...)
	var list []*imapclient.FetchMessageBuffer
	err := bounded(c, func() (err error) {
		list, err = c.Fetch(set, &imap.FetchOptions{
			UID: true, InternalDate: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{headSection},
		}).Collect()
		return err
	})
	if err != nil {
		return err
	}
	for _, msg := range list {
		head := string(msg.FindBodySection(headSection))
		h := mail.ParseHeader([]byte(head))
		tokens, _ := m.keys.find(head, time.Now())
		report := ""
		if mayBeNotice(h) {
			body, err := m.body(c, msg.UID)
			if err != nil {
				return err
			}
			tokens, _ = m.keys.find(head+"\n"+body, time.Now())
			report = body[:min(len(body), maxReport)]
		}
		if len(tokens) > 0 {
			m.store.add(m.arrival(head, h, report, tokens, msg), time.Now())
		}
	}
	return nil
}

// mayBeNotice reports whether what a message says in its body may concern a
// probe: nobody else's letters are opened.
func mayBeNotice(h mail.Header) bool {
	kind := strings.ToLower(h.Get("Content-Type"))
	auto := strings.ToLower(h.Get("Auto-Submitted"))
	return strings.HasPrefix(kind, "multipart/report") || strings.HasPrefix(auto, "auto-replied") ||
		strings.TrimSpace(h.Get("Return-Path")) == "<>"
}

func (m *Mailbox) body(c *imapclient.Client, uid imap.UID) (string, error) {
	var list []*imapclient.FetchMessageBuffer
	err := bounded(c, func() (err error) {
		list, err = c.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{bodySection}}).Collect()
		return err
	})
	if err != nil || len(list) == 0 {
		return "", err
	}
	return string(list[0].FindBodySection(bodySection)), nil
}

func (m *Mailbox) arrival(head string, h mail.Header, report string, tokens []plan.Token, msg *imapclient.FetchMessageBuffer) verdict.Arrival {
	now := time.Now()
	recipient := recipientOf(h, m.keys, now)
	if recipient == "" {
		recipient = m.c.Address.String()
	} else if live, _ := m.keys.find(recipient, now); len(live) > 0 {
		tokens = first(live[0], tokens)
	}
	a := verdict.Arrival{
		Tokens: tokens, At: msg.InternalDate.UTC(), ReversePath: strings.TrimSpace(h.Get("Return-Path")),
		ForwardPath: recipient, Header: head, Size: msg.RFC822Size, Seen: verdict.SeenByMailbox,
	}
	a.Kind = kindOf(a.ReversePath == "<>", recipient, tokens[0], h, report, func(text string) bool {
		live, _ := m.keys.find(text, now)
		return len(live) > 0
	})
	hop := egressOf(h, m.border)
	if hop.IP.IsValid() {
		a.Peer = netip.AddrPortFrom(hop.IP, 0)
		a.Helo = hop.From
		a.PTR = m.nameOf(hop.IP)
	}
	return a
}

func (m *Mailbox) nameOf(a netip.Addr) string {
	if m.c.Resolver == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), ptrPatience)
	defer cancel()
	names, err := m.c.Resolver.Names(ctx, a)
	if err != nil || len(names) == 0 {
		return ""
	}
	return names[0]
}

// recipientOf returns the recipient that the mailbox's server noted, if it
// carries a live token; every software has a field of its own for it.
func recipientOf(h mail.Header, k keys, now time.Time) string {
	for _, name := range []string{"X-Original-To", "Delivered-To", "Envelope-To", "X-Envelope-To", "X-Forwarded-To"} {
		for _, text := range h.All(name) {
			if live, _ := k.find(text, now); len(live) > 0 {
				return strings.TrimSpace(text)
			}
		}
	}
	return ""
}

func first(t plan.Token, list []plan.Token) []plan.Token {
	all := []plan.Token{t}
	for _, other := range list {
		if other != t {
			all = append(all, other)
		}
	}
	return all
}

// egressOf returns the hop at which a message came in from outside: the one
// that a server of the border wrote, else the topmost whose client has a
// public address, else the topmost that has any. What stands below was
// written by others, who may have written anything.
func egressOf(h mail.Header, border []string) mail.Received {
	var public, other mail.Received
	for _, text := range h.All("Received") {
		r := mail.ParseReceived(text)
		if !r.IP.IsValid() {
			continue
		}
		for _, name := range border {
			if strings.EqualFold(strings.TrimSuffix(r.By, "."), name) {
				return r
			}
		}
		ip := r.IP.Unmap()
		if !public.IP.IsValid() && ip.IsGlobalUnicast() && !ip.IsPrivate() {
			public = r
		}
		if !other.IP.IsValid() {
			other = r
		}
	}
	if public.IP.IsValid() {
		return public
	}
	return other
}
