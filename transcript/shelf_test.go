package transcript_test

import (
	"errors"
	"testing"
	"time"

	"postern/transcript"
)

// A row is a shelf in memory, with a fault.
type row struct {
	kept  []byte
	put   error
	fetch error
}

func (r *row) Put(p []byte) (int64, error) {
	at := len(r.kept)
	r.kept = append(r.kept, p...)
	return int64(at), r.put
}

func (r *row) Get(at int64, n int) ([]byte, error) { return r.kept[at:][:n], r.fetch }

func talk(t *transcript.Transcript, text string) {
	t.Add(time.Time{}, transcript.Sent, []byte(text+"\r\n"))
	t.Add(time.Time{}, transcript.Received, []byte("250 \xff\r\n"))
}

// A conversation reads the same wherever its parts lie; what was lost is said.
func TestShelve(t *testing.T) {
	const whole = " -> NOOP\n<-  250 \\xff\n -> QUIT\n<-  250 \\xff\n"
	for _, c := range []struct {
		name string
		on   row
		want string
	}{
		{"on the shelf", row{}, whole},
		{"the shelf does not work", row{put: errors.New("no disk")}, whole},
		{"the shelf is full", row{put: transcript.ErrFull}, " -> QUIT\n<-  250 \\xff\n*** 13 more bytes were not kept\n"},
		{"the shelf has lost it", row{fetch: errors.New("torn")}, "*** this part of the conversation was put aside and cannot be read: torn\n -> QUIT\n<-  250 \\xff\n"},
	} {
		rec := &transcript.Transcript{}
		talk(rec, "NOOP")
		rec.Shelve(&c.on)
		talk(rec, "QUIT")
		if got := rec.String(); got != c.want {
			t.Errorf("%s:\n%swant\n%s", c.name, got, c.want)
		}
	}
}
