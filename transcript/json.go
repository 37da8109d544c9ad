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
	return json.Marshal(transcriptJSON{Entries: asJSON(t.Entries()), Dropped: t.Dropped()})
}

func asJSON(entries []Entry) []entryJSON {
	list := make([]entryJSON, 0, len(entries))
	for _, e := range entries {
		j := entryJSON{At: e.At, Dir: e.Dir.String(), TLS: e.TLS}
		if utf8.Valid(e.Bytes) {
			j.Text = string(e.Bytes)
		} else {
			j.Base64 = e.Bytes
		}
		list = append(list, j)
	}
	return list
}

func (j entryJSON) entry() (Entry, error) {
	e := Entry{At: j.At, TLS: j.TLS, Bytes: j.Base64}
	if e.Bytes == nil {
		e.Bytes = []byte(j.Text)
	}
	for _, dir := range []Dir{Sent, Received, Note} {
		if j.Dir == dir.String() {
			e.Dir = dir
			return e, nil
		}
	}
	return e, fmt.Errorf("direction %q; want sent, received or note", j.Dir)
}

// UnmarshalJSON reads what MarshalJSON wrote, within the limit of t.
func (t *Transcript) UnmarshalJSON(data []byte) error {
	var in transcriptJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries, t.shelves, t.size, t.dropped, t.tls = nil, nil, 0, 0, false
	for i, j := range in.Entries {
		e, err := j.entry()
		if err != nil {
			return fmt.Errorf("transcript entry %d: %w", i, err)
		}
		t.tls = e.TLS
		t.keep(e.At, e.Dir, e.Bytes)
	}
	t.dropped += in.Dropped
	return nil
}
