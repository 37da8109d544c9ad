package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"time"

	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

// A record is what the store keeps of a message beside the chunks of its body.
//
// It is written by hand and not as JSON because the start reads one for each
// message: this reads a million in a few seconds, JSON in half a minute.
// Its form: the version, fields in a fixed order (numbers as varints, texts
// with their length before them), and a checksum over all of it, so that
// neither a rotten disk nor a hand can change a grant without being seen.
type record struct {
	queue.Message
	chunks uint64
	sum    uint32 // CRC-32C of the body
	events uint64 // how many keys hold what happened to it
}

// recordVersion is what is written. Version 1 has no Message-ID and no events.
const recordVersion = 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errRecord is wrapped by all that is wrong with a record.
var errRecord = errors.New("not a record of a message")

type writer struct{ b []byte }

func (w *writer) number(n uint64)    { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) signed(n int64)     { w.b = binary.AppendVarint(w.b, n) }
func (w *writer) text(s string)      { w.number(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) moment(t time.Time) { w.signed(nanos(t)) }

func (w *writer) flag(on bool) {
	if on {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// nanos returns t as the store writes it; 0 is no time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// appendTo appends the record's form to b.
func (r *record) appendTo(b []byte) []byte {
	start := len(b)
	w := &writer{append(b, recordVersion)}
	w.text(r.ID)
	w.text(r.From.String())
	w.number(uint64(r.Size))
	w.number(r.chunks)
	w.number(uint64(r.sum))
	w.text(r.Hold)
	w.moment(r.Expires)
	w.number(uint64(r.Lane))
	w.params(r.Params)
	w.origin(r.Origin)
	w.text(r.Name)
	w.number(r.events)
	w.number(uint64(len(r.To)))
	for i := range r.To {
		w.recipient(&r.To[i])
	}
	return seal(w.b, start)
}

// seal adds the checksum over what was appended from start on.
func seal(b []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// unseal returns the version and the fields of what was sealed.
func unseal(b []byte) (version byte, r *reader, err error) {
	if len(b) < 5 {
		return 0, nil, fmt.Errorf("%w: %d octets", errRecord, len(b))
	}
	fields, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(fields, castagnoli) != sum {
		return 0, nil, fmt.Errorf("%w: the checksum is wrong", errRecord)
	}
	return fields[0], &reader{b: fields[1:]}, nil
}

func (w *writer) params(p mail.SenderParams) {
	w.number(uint64(p.Size))
	w.text(string(p.Body))
	w.flag(p.UTF8)
	w.text(string(p.Ret))
	w.text(p.EnvID)
	w.text(p.Auth)
	w.flag(p.RequireTLS)
}

func (w *writer) origin(o queue.Origin) {
	w.text(o.Session)
	w.text(o.Listener)
	if o.Peer.IsValid() {
		w.text(o.Peer.String())
	} else {
		w.text("")
	}
	w.text(o.Helo)
	w.text(o.Identity)
	w.text(o.TLS)
	w.moment(o.At)
}

func (w *writer) recipient(r *queue.Recipient) {
	g := &r.Grant
	for _, s := range [...]string{g.Reason, g.Who, g.To, g.From, g.Listener, g.Addr, g.Origin, g.Policy} {
		w.text(s)
	}
	w.flag(g.TLS)
	w.number(uint64(r.Params.Notify))
	w.text(r.Params.ORcpt)
	w.number(uint64(len(r.Goes)))
	for i := range r.Goes {
		d := &r.Goes[i]
		w.text(mail.ForwardTo(d.To).String())
		w.text(d.From.String())
		w.number(uint64(d.State))
		w.number(uint64(d.Attempts))
		w.moment(d.Next)
		w.moment(d.At)
		w.reply(d.Reply)
		w.text(d.Note)
	}
}

func (w *writer) reply(r mail.Reply) {
	w.number(uint64(r.Code))
	w.number(uint64(r.Enhanced.Class))
	w.number(uint64(r.Enhanced.Subject))
	w.number(uint64(r.Enhanced.Detail))
	w.number(uint64(len(r.Lines)))
	for _, line := range r.Lines {
		w.text(line)
	}
}

// A reader reads fields one after the other. After the first fault it returns
// zero values; the fault is in err.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errRecord, fmt.Sprintf(what, args...))
		r.b = nil
	}
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail("a number is missing")
		return 0
	}
	r.b = r.b[size:]
	return n
}

// below reads a number that must be less than end.
func (r *reader) below(end uint64, what string) uint64 {
	n := r.number()
	if n >= end {
		r.fail("%s %d", what, n)
		return 0
	}
	return n
}

func (r *reader) signed(what string) int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail("%s is missing", what)
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) moment() time.Time { return moment(r.signed("a time")) }

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.fail("a text of %d octets in %d", n, len(r.b))
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) flag() bool { return r.below(2, "a flag of") == 1 }

// count reads how many things follow. Each takes an octet at least, so a
// number that cannot be true costs no memory.
func (r *reader) count(what string) int { return int(r.below(uint64(len(r.b))+1, what)) }

// parseRecord reads a record. All that is wrong with it is an error of
// errRecord: what has no grant or no address never comes out of the store.
func parseRecord(b []byte) (record, error) {
	version, r, err := unseal(b)
	if err != nil {
		return record{}, err
	}
	if version != recordVersion && version != 1 {
		return record{}, fmt.Errorf("%w: version %d", errRecord, version)
	}
	var m record
	m.ID = r.text()
	m.From = r.reversePath()
	m.Size = int64(r.below(1<<62, "a size of"))
	m.chunks = r.below(1<<32, "chunks:")
	m.sum = uint32(r.below(1<<32, "a checksum of"))
	m.Hold = r.text()
	m.Expires = r.moment()
	m.Lane = queue.Lane(r.below(uint64(queue.Bulk)+1, "lane"))
	m.Params = r.params()
	m.Origin = r.origin()
	if version > 1 {
		m.Name = r.text()
		m.events = r.below(1<<32, "events:")
	}
	n := r.count("recipients:")
	for range n {
		m.To = append(m.To, r.recipient())
		if r.err != nil {
			return record{}, r.err
		}
	}
	if _, err := queue.ParseID(m.ID); err != nil {
		r.fail("the id %q", m.ID)
	}
	if m.From.IsZero() {
		r.fail("no reverse-path")
	}
	if n == 0 {
		r.fail("no recipient")
	}
	if len(r.b) > 0 {
		r.fail("%d octets too many", len(r.b))
	}
	return m, r.err
}

func (r *reader) reversePath() mail.ReversePath {
	s := r.text()
	if s == "" {
		return mail.ReversePath{}
	}
	p, err := mail.ParseReversePath(s)
	if err != nil {
		r.fail("%v", err)
	}
	return p
}

func (r *reader) params() mail.SenderParams {
	return mail.SenderParams{
		Size: int64(r.below(1<<62, "a size of")), Body: mail.Body(r.text()), UTF8: r.flag(),
		Ret: mail.Ret(r.text()), EnvID: r.text(), Auth: r.text(), RequireTLS: r.flag(),
	}
}

func (r *reader) origin() queue.Origin {
	o := queue.Origin{Session: r.text(), Listener: r.text()}
	if s := r.text(); s != "" {
		var err error
		if o.Peer, err = netip.ParseAddr(s); err != nil {
			r.fail("%v", err)
		}
	}
	o.Helo, o.Identity, o.TLS, o.At = r.text(), r.text(), r.text(), r.moment()
	return o
}

// reasons are those that a grant can have; a record with another was made by
// somebody else.
var reasons = func() (list []string) {
	for _, r := range policy.Reasons() {
		list = append(list, r.String())
	}
	return list
}()

func (r *reader) recipient() queue.Recipient {
	var to queue.Recipient
	g := &to.Grant
	for _, s := range [...]*string{&g.Reason, &g.Who, &g.To, &g.From, &g.Listener, &g.Addr, &g.Origin, &g.Policy} {
		*s = r.text()
	}
	g.TLS = r.flag()
	if r.err == nil && !slices.Contains(reasons, g.Reason) {
		r.fail("a recipient without a grant")
	}
	to.Params = mail.RecipientParams{Notify: mail.Notify(r.below(256, "NOTIFY")), ORcpt: r.text()}
	n := r.count("deliveries:")
	for range n {
		to.Goes = append(to.Goes, r.delivery())
		if r.err != nil {
			return queue.Recipient{}
		}
	}
	if n == 0 {
		r.fail("a recipient that goes nowhere")
	}
	return to
}

func (r *reader) delivery() queue.Delivery {
	to, err := mail.ParseForwardPath(r.text())
	if err != nil {
		r.fail("%v", err)
	}
	d := queue.Delivery{
		To: to.Address(), From: r.reversePath(), State: queue.DeliveryState(r.below(uint64(queue.Failed)+1, "state")),
		Attempts: int(r.below(1<<31, "attempts:")), Next: r.moment(), At: r.moment(),
	}
	d.Reply = r.reply()
	d.Note = r.text()
	return d
}

func (r *reader) reply() (said mail.Reply) {
	said.Code = int(r.below(1000, "a reply of code"))
	said.Enhanced = mail.EnhancedCode{
		Class: uint16(r.below(1000, "class")), Subject: uint16(r.below(1000, "subject")), Detail: uint16(r.below(1000, "detail")),
	}
	for range r.count("lines:") {
		said.Lines = append(said.Lines, r.text())
	}
	return said
}
