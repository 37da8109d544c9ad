package transcript

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// entryJSON is the form of an entry for machines: "text" where the bytes are
// UTF-8, else "base64".
type entryJSON struct {
	At     time.Time `json:"at"`
	Dir    string    `json:"dir"`
	TLS    bool      `json:"tls,omitempty"`
	Text   string    `json:"text,omitempty"`
	Base64 []byte    `json:"base64,omitempty"`
}

type transcriptJSON struct {
	Entries []entryJSON `json:"entries"`
	Dropped int64       `json:"dropped,omitempty"`
}

// MarshalJSON returns {"entries":[{"at","dir","tls","text"|"base64"}],"dropped"}.
func (t *Transcript) MarshalJSON() ([]byte, error) {
	out := transcriptJSON{Entries: []entryJSON{}, Dropped: t.Dropped()}
	for _, e := range t.Entries() {
		j := entryJSON{At: e.At, Dir: e.Dir.String(), TLS: e.TLS}
		if utf8.Valid(e.Bytes) {
			j.Text = string(e.Bytes)
		} else {
			j.Base64 = e.Bytes
		}
		out.Entries = append(out.Entries, j)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote, within the limit of t.
func (t *Transcript) UnmarshalJSON(data []byte) error {
	var in transcriptJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries, t.size, t.dropped, t.tls = nil, 0, 0, false
	for i, j := range in.Entries {
		var dir Dir
		switch j.Dir {
		case "sent":
			dir = Sent
		case "received":
			dir = Received
		case "note":
			dir = Note
		default:
			return fmt.Errorf("transcript entry %d: direction %q; want sent, received or note", i, j.Dir)
		}
		p := j.Base64
		if p == nil {
			p = []byte(j.Text)
		}
		t.tls = j.TLS
		t.keep(j.At, dir, p)
	}
	t.dropped += in.Dropped
	return nil
}
