package catch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What is kept: the last messages, whichever limit comes first.
const (
	mostMessages = 1000
	mostBytes    = 256 << 20
)

// A store keeps the last messages, in memory and, where there is a folder,
// there as well. It is safe for concurrent use.
type store struct {
	dir *os.Root // nil: memory alone

	mu      sync.Mutex
	list    []Message // oldest first
	bytes   int
	last    uint64
	changed chan struct{} // closed when a message comes
}

func newStore() *store { return &store{changed: make(chan struct{})} }

// openStore takes up what a folder holds from before.
func openStore(dir string) (*store, error) {
	s := newStore()
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of messages: %w; name another with --keep", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("folder of messages: %w; name another with --keep", err)
	}
	s.dir = root
	names, err := fs.Glob(root.FS(), "*.json")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	slices.Sort(names)
	for _, name := range names {
		id := strings.TrimSuffix(name, ".json")
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil || idOf(n) != id {
			continue // not one of ours
		}
		m, err := s.load(id)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w; move it away, or name another folder with --keep", path.Join(dir, name), err), root.Close())
		}
		s.last = max(s.last, n)
		s.keep(m)
	}
	return s, nil
}

func idOf(n uint64) string { return fmt.Sprintf("%08d", n) }

func (s *store) load(id string) (Message, error) {
	var m Message
	text, err := s.dir.ReadFile(id + ".json")
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, err
	}
	m.ID = id
	m.raw, err = s.dir.ReadFile(id + ".eml")
	m.Size = len(m.raw)
	return m, err
}

// add keeps a message and returns it with its id.
func (s *store) add(from string, to []string, raw []byte) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := newMessage(idOf(s.last+1), time.Now(), from, to, raw)
	if s.dir != nil {
		text, err := json.Marshal(m)
		if err == nil {
			err = s.dir.WriteFile(m.ID+".eml", raw, 0o600)
		}
		if err == nil {
			err = s.dir.WriteFile(m.ID+".json", append(text, '\n'), 0o600)
		}
		if err != nil {
			return m, err
		}
	}
	s.last++
	s.keep(m)
	close(s.changed)
	s.changed = make(chan struct{})
	return m, nil
}

// keep adds to the list and drops the oldest beyond the limits; s.mu is held.
func (s *store) keep(m Message) {
	s.list = append(s.list, m)
	s.bytes += m.Size
	for len(s.list) > mostMessages || s.bytes > mostBytes && len(s.list) > 1 {
		_ = s.drop(0) // a file that stays is dropped at the next start
	}
}

// drop takes one message away; s.mu is held.
func (s *store) drop(i int) error {
	m := s.list[i]
	s.list = slices.Delete(s.list, i, i+1)
	s.bytes -= m.Size
	if s.dir == nil {
		return nil
	}
	return errors.Join(s.dir.Remove(m.ID+".json"), s.dir.Remove(m.ID+".eml"))
}

// A filter is what is looked for; parts of the envelope and of the subject,
// in any case of letters.
type filter struct {
	from, to, subject string
	after             string // an id: only what came later
}

func (f filter) takes(m Message) bool { return m.ID > f.after && about(m, f.from, f.to, f.subject) }

// find returns what a filter takes, newest first.
func (s *store) find(f filter) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []Message{}
	for _, m := range slices.Backward(s.list) {
		if f.takes(m) {
			found = append(found, m)
		}
	}
	return found
}

func (s *store) get(id string) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(m Message) bool { return m.ID == id })
	if i < 0 {
		return Message{}, false
	}
	return s.list[i], true
}

// remove drops the messages that are asked for, and returns how many.
func (s *store) remove(wanted func(Message) bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	n := 0
	for i := len(s.list) - 1; i >= 0; i-- {
		if wanted(s.list[i]) {
			errs = append(errs, s.drop(i))
			n++
		}
	}
	return n, errors.Join(errs...)
}

// wait returns the newest message that a filter takes, once there is one.
func (s *store) wait(ctx context.Context, f filter) (Message, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if found := s.find(f); len(found) > 0 {
			return found[0], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Message{}, context.Cause(ctx)
		}
	}
}

func (s *store) close() error {
	if s.dir == nil {
		return nil
	}
	return s.dir.Close()
}
