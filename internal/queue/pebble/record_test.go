package pebble_test

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
	"postern/mail"
)

// same compares messages: times by the moment, values of package mail as they are.
var same = cmp.Options{
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
	cmp.Comparer(func(a, b mail.ReversePath) bool { return a == b }),
	cmp.Comparer(func(a, b mail.Address) bool { return a == b }),
	cmp.Transformer("address", func(o queue.Origin) string { return o.Peer.String() }),
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// messages are those that the codec's tests begin with.
func messages(t testing.TB) map[string]queue.Message {
	list := map[string]queue.Message{}
	add := func(name string, l queue.Letter, change func(*queue.Message)) {
		m, err := queue.New(l)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(&m)
		}
		list[name] = m
	}
	add("plain", queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>"), nil)
	add("notice", queuetest.NewLetter(noon, "<>", "<sales@ours.example>"), nil)
	add("postmaster", queuetest.NewLetter(noon, `<"a b"@ours.example>`, "<postmaster@ours.example>", "<b@xn--bcher-kva.example>"), nil)
	add("no time, no address", queuetest.NewLetter(time.Time{}, "<a@ours.example>", "<b@far.example>"), func(m *queue.Message) {
		m.Origin = queue.Origin{}
		m.To[0].Goes[0].To = postmaster
	})
	add("all of it", queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>", "<sales@ours.example>"), func(m *queue.Message) {
		m.Hold, m.Expires, m.Lane, m.Size = "why", noon.Add(time.Hour), queue.Urgent, 1<<40
		m.Name = "<1@pc.ours.example>"
		m.Params = mail.SenderParams{Size: 7, Body: mail.BodyBinary, UTF8: true, Ret: mail.RetFull, EnvID: "x+3D", Auth: "<>", RequireTLS: true}
		d := &m.To[1].Goes[2]
		d.State, d.Attempts, d.Next, d.At, d.Note = queue.Withheld, 12, noon.Add(1), noon.Add(-1), "note\x00\r\n\xff"
		d.Reply = mail.Reply{Code: 451, Enhanced: mail.EnhancedCode{Class: 4, Subject: 3}, Lines: []string{"one", "", "three"}}
	})
	return list
}

var postmaster = func() mail.Address {
	p, err := mail.ParseForwardPath("<postmaster>")
	if err != nil {
		panic(err)
	}
	return p.Address()
}()

func TestRecord(t *testing.T) {
	for name, m := range messages(t) {
		b := pebble.Record(m, 3, 0xdeadbeef)
		got, chunks, sum, err := pebble.ParseRecord(b)
		if diff := cmp.Diff(m, got, same); err != nil || chunks != 3 || sum != 0xdeadbeef || diff != "" {
			t.Errorf("%s: %d, %x, %v\n%s", name, chunks, sum, err, diff)
		}
		for i := range b {
			bad := []byte(string(b))
			bad[i] ^= 0x10
			if _, _, _, err := pebble.ParseRecord(bad); err == nil {
				t.Errorf("%s: a flipped bit in octet %d was not seen", name, i)
			}
			if _, _, _, err := pebble.ParseRecord(b[:i]); err == nil {
				t.Errorf("%s: the first %d octets of %d were taken for all", name, i, len(b))
			}
		}
	}
}

// sealed adds the checksum, as somebody who makes a record by hand would.
func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b[:len(b):len(b)], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func TestRecordsMadeByHand(t *testing.T) {
	plain := messages(t)["plain"]
	for _, c := range []struct {
		name   string
		change func(*queue.Message)
		want   string
	}{
		{"no grant", func(m *queue.Message) { m.To[0].Grant.Reason = "" }, "without a grant"},
		{"a reason that is none", func(m *queue.Message) { m.To[0].Grant.Reason = "because" }, "without a grant"},
		{"no recipient", func(m *queue.Message) { m.To = nil }, "no recipient"},
		{"goes nowhere", func(m *queue.Message) { m.To[0].Goes = nil }, "goes nowhere"},
		{"goes to no address", func(m *queue.Message) { m.To[0].Goes[0].To = mail.Address{} }, "brackets"},
		{"no reverse-path", func(m *queue.Message) { m.From = mail.ReversePath{} }, "no reverse-path"},
		{"an id that is a path", func(m *queue.Message) { m.ID = "../../etc/passwd" }, "id"},
		{"a state that is none", func(m *queue.Message) { m.To[0].Goes[0].State = 9 }, "state 9"},
		{"a lane that is none", func(m *queue.Message) { m.Lane = 9 }, "lane 9"},
	} {
		m := plain
		m.To = []queue.Recipient{plain.To[0]}
		m.To[0].Goes = []queue.Delivery{plain.To[0].Goes[0]}
		c.change(&m)
		if _, _, _, err := pebble.ParseRecord(pebble.Record(m, 0, 0)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	b := pebble.Record(plain, 0, 0)
	if _, _, _, err := pebble.ParseRecord(sealed(append(b[:len(b)-4:len(b)-4], 0))); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("an octet too many: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	for _, m := range messages(f) {
		b := pebble.Record(m, 1, 2)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, chunks, sum, err := pebble.ParseRecord(sealed(b))
		if err != nil {
			return
		}
		again, chunks2, sum2, err := pebble.ParseRecord(pebble.Record(m, chunks, sum))
		if diff := cmp.Diff(m, again, same); err != nil || chunks != chunks2 || sum != sum2 || diff != "" {
			t.Errorf("it does not come back: %v\n%s", err, diff)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	m := messages(b)["plain"]
	form := pebble.Record(m, 1, 2)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pebble.Record(m, 1, 2)
		}
		b.ReportMetric(float64(len(form)), "octets")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _, _ = pebble.ParseRecord(form)
		}
	})
}
