package pebble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	lib "github.com/cockroachdb/pebble/v2"

	"postern/internal/queue"
)

// A life is found by its words: for each there is a key of the day of the
// message's id, of a hash of the word, and of the id. The day comes first, so
// that forgetting is the removal of a range; two words of one hash are told
// apart by reading the life. Messages that are in the queue have no such keys,
// so that a client waits for none: they are read one after the other.

// A hash is of a word. Eight octets of SHA-256: nobody can choose addresses so
// that those of another are slow to find.
type hash [8]byte

func hashOf(word string) (h hash) {
	sum := sha256.Sum256([]byte(word))
	copy(h[:], sum[:])
	return h
}

// dayOf returns the day at which an id was made, counted from 1970 in UTC.
func dayOf(id string) uint32 { return uint32(queue.TimeOf(id).Unix() / (24 * 60 * 60)) }

func wordAt(day uint32, h hash, id []byte) []byte {
	b := binary.BigEndian.AppendUint32(append(make([]byte, 0, 32), wordKey), day)
	return append(append(b, h[:]...), id...)
}

// wordIn takes apart what wordAt made.
func wordIn(b []byte) (day uint32, h hash, k key, ok bool) {
	if len(b) != 1+4+len(h)+len(k) {
		return 0, h, k, false
	}
	copy(h[:], b[5:])
	copy(k[:], b[5+len(h):])
	_, err := queue.ParseID(k.String())
	return binary.BigEndian.Uint32(b[1:]), h, k, err == nil
}

// A past is the store as it was at one moment, and what is known of the state
// of a message that was in the queue.
type past struct {
	r     lib.Reader
	state func(*record) queue.State
}

// get reads a value; it is good until done is called.
func (p past) get(k []byte) (value []byte, done func() error, ok bool, err error) {
	v, closer, err := getFrom(p.r, k)
	if errors.Is(err, lib.ErrNotFound) {
		return nil, nil, false, nil
	}
	if err != nil {
		return nil, nil, false, broken(err)
	}
	return v, closer.Close, true, nil
}

// events returns what happened to a message of the queue.
func (p past) events(r *record) (list []queue.Event, err error) {
	for n := range r.events {
		v, done, ok, err := p.get(keyOf(r.ID).event(n))
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if some, bad := parseEvents(v, &r.Message); bad == nil {
			list = append(list, some...)
		}
		if err := done(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// left returns the life of a message that has left the queue.
func (p past) left(k key) (l queue.Life, ok bool, err error) {
	v, done, ok, err := p.get(k.at(lifeKey))
	if err != nil || !ok {
		return queue.Life{}, false, err
	}
	l, bad := parseLife(v)
	return l, bad == nil && l.Message.ID == k.String(), done()
}

// at lends do the store as it is now.
func (q *Queue) at(do func(past) error) error {
	s, done, err := q.use()
	if err != nil {
		return err
	}
	defer done()
	now := s.db.NewSnapshot()
	return errors.Join(do(past{now, func(r *record) queue.State {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.stateOf(r)
	}}), now.Close())
}

// Life implements queue.History.
func (q *Queue) Life(_ context.Context, id string) (l queue.Life, err error) {
	err = q.at(func(p past) (err error) { l, err = p.life(id); return err })
	return l, err
}

// Find implements queue.History.
func (q *Queue) Find(ctx context.Context, f queue.Search, page queue.Page) (list []queue.Life, next string, err error) {
	err = q.at(func(p past) (err error) { list, next, err = p.find(ctx, &f, page); return err })
	return list, next, err
}

// A Past is the history of a queue that no process has open.
type Past struct {
	db *readingStore
	past
}

// OpenPast opens the history of the queue in o.Dir to be read; the queue is not
// changed.
func OpenPast(o Options) (*Past, error) {
	db, err := openToRead(o)
	if err != nil {
		return nil, err
	}
	have, err := formatOf(db)
	if newest := uint64(len(formats)) + 1; err == nil && have > newest {
		err = tooNew(o.Dir, have, newest)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Past{db, past{db, func(r *record) queue.State { return r.Rest() }}}, nil
}

// Life returns what is known of one message.
func (p *Past) Life(_ context.Context, id string) (queue.Life, error) { return p.life(id) }

// Find returns lives as queue.History does.
func (p *Past) Find(ctx context.Context, f queue.Search, page queue.Page) ([]queue.Life, string, error) {
	return p.find(ctx, &f, page)
}

// Close closes the store.
func (p *Past) Close() error { return p.db.Close() }

func (p past) life(id string) (l queue.Life, err error) {
	k := keyOf(id)
	v, done, ok, err := p.get(k.at(messageKey))
	if err != nil {
		return l, err
	}
	if !ok {
		if l, ok, err = p.left(k); err == nil && !ok {
			err = queue.ErrNoSuchID
		}
		return l, err
	}
	r, err := parseRecord(v)
	if err = errors.Join(err, done()); err != nil {
		return l, err
	}
	return p.present(&r)
}

// present returns the life of a message that is in the queue.
func (p past) present(r *record) (l queue.Life, err error) {
	r.State = p.state(r)
	l.Message = r.Message
	l.Events, err = p.events(r)
	return l, err
}

func (p past) find(ctx context.Context, f *queue.Search, page queue.Page) (list []queue.Life, next string, err error) {
	queued, gone, err := trails(p.r, f, page.After)
	defer func() { err = errors.Join(err, queued.close(), gone.close()) }()
	if err != nil {
		return nil, "", err
	}
	rough := newSieve(f)
	for (queued.ok || gone.ok) && next == "" {
		if err := context.Cause(ctx); err != nil {
			return nil, "", err
		}
		l, ok, err := p.newer(queued, gone, rough, f)
		switch {
		case err != nil:
			return nil, "", err
		case !ok:
		case len(list) == page.Size(): // one more than a page: there is a next
			next = list[len(list)-1].Message.ID
		default:
			list = append(list, l)
		}
	}
	return list, next, errors.Join(queued.it.Error(), gone.it.Error())
}

// newer takes the newer life of two trails; false: it does not pass.
func (p past) newer(queued, gone *trail, rough *sieve, f *queue.Search) (l queue.Life, ok bool, err error) {
	if !queued.ok || gone.ok && string(gone.key[:]) > string(queued.key[:]) {
		l, ok, err = gone.at(p, rough)
		gone.step(gone.it.Prev())
		return l, ok && f.Match(&l.Message), err
	}
	v, err := valueAt(queued.it)
	if err != nil {
		return queue.Life{}, false, broken(err)
	}
	if !rough.passes(v) {
		queued.step(queued.it.Prev())
		return queue.Life{}, false, nil
	}
	r, bad := parseRecord(v)
	queued.step(queued.it.Prev())
	if bad != nil || !f.Match(&r.Message) {
		return queue.Life{}, false, nil //nolint:nilerr // it is moved aside when it is to leave, or at the next start
	}
	l, err = p.present(&r)
	return l, err == nil, err
}

// A sieve passes what may be a life that is looked for: reading one costs ten
// times as much as seeing that an address is nowhere in it.
type sieve struct {
	parts [][]byte
	small []byte // the last that was looked at, in small letters
}

func newSieve(f *queue.Search) *sieve {
	s := &sieve{}
	for _, part := range f.Parts() {
		if strings.IndexFunc(part, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 { // only of ASCII it is known how it is written
			s.parts = append(s.parts, []byte(part))
		}
	}
	return s
}

// passes reports whether what is stored has all parts in it somewhere.
func (s *sieve) passes(v []byte) bool {
	if len(s.parts) == 0 {
		return true
	}
	s.small = append(s.small[:0], v...)
	for i, c := range s.small {
		if 'A' <= c && c <= 'Z' {
			s.small[i] = c + 'a' - 'A'
		}
	}
	for _, part := range s.parts {
		if !bytes.Contains(s.small, part) {
			return false
		}
	}
	return true
}

// A trail goes backwards in time through keys with ids: those of one prefix,
// or those of one word.
type trail struct {
	it    *lib.Iterator
	word  bool
	hash  hash
	day   uint32 // of a word: where it is looked for
	first key
	key   key
	ok    bool // there is a key
}

// slack is how much earlier than its acceptance the id of a message may be: it
// is made when the connection begins.
const slack = time.Hour

// trails returns those that a search must follow: one through the queue, and
// one through what has left it, newest first, of ids less than after.
func trails(r lib.Reader, f *queue.Search, after string) (queued, gone *trail, err error) {
	first, end := keyOf(queue.FirstID(time.Time{})), key{0xff}
	if !f.Since.IsZero() {
		first = keyOf(queue.FirstID(f.Since.Add(-slack)))
	}
	if !f.Until.IsZero() {
		end = keyOf(queue.FirstID(f.Until.Add(time.Millisecond)))
	}
	if after != "" && after < end.String() {
		end = keyOf(after)
	}
	queued, gone = &trail{first: first}, &trail{first: first}
	if queued.it, err = r.NewIter(&lib.IterOptions{LowerBound: first.at(messageKey), UpperBound: end.at(messageKey)}); err != nil {
		return queued, gone, err
	}
	queued.step(queued.it.Last())
	word := f.Word()
	if word == "" {
		if gone.it, err = r.NewIter(&lib.IterOptions{LowerBound: first.at(lifeKey), UpperBound: end.at(lifeKey)}); err == nil {
			gone.step(gone.it.Last())
		}
		return queued, gone, err
	}
	gone.word, gone.hash, gone.day = true, hashOf(word), ^uint32(0)
	if end != (key{0xff}) {
		gone.day = dayOf(end.String())
	}
	low := wordAt(dayOf(first.String()), hash{}, nil)
	if gone.it, err = r.NewIter(&lib.IterOptions{LowerBound: low, UpperBound: []byte{wordKey + 1}}); err == nil {
		gone.step(gone.it.SeekLT(wordAt(gone.day, gone.hash, end[:])))
	}
	return queued, gone, err
}

// step looks at where the iterator is, and goes on backwards until it is at a
// key of the trail.
func (t *trail) step(ok bool) {
	t.ok = false
	for ; ok && !t.word; ok = t.it.Prev() {
		if t.key, t.ok = keyIn(t.it.Key()); t.ok {
			return
		}
	}
	for ok {
		day, h, k, good := wordIn(t.it.Key())
		switch {
		case !good:
			ok = t.it.Prev()
		case h == t.hash:
			t.day, t.key, t.ok = day, k, string(k[:]) >= string(t.first[:])
			return
		case day < t.day: // an earlier day: is the word there?
			t.day = day
			ok = t.it.SeekLT(wordAt(day, t.hash, []byte{0xff}))
		default: // it is not
			ok = t.it.SeekLT(wordAt(day, hash{}, nil))
		}
	}
}

// at returns the life that the trail is at. A word may lead to none that is
// left.
func (t *trail) at(p past, rough *sieve) (l queue.Life, ok bool, err error) {
	if t.word {
		return p.left(t.key)
	}
	v, err := valueAt(t.it)
	if err != nil {
		return queue.Life{}, false, broken(err)
	}
	if !rough.passes(v) {
		return queue.Life{}, false, nil
	}
	l, bad := parseLife(v)
	return l, bad == nil && l.Message.ID == t.key.String(), nil
}

func (t *trail) close() error {
	if t.it == nil {
		return nil
	}
	return t.it.Close()
}

// Forget implements queue.History. Words are forgotten by whole days; those
// that lead to nothing until then are passed over.
func (q *Queue) Forget(ctx context.Context, before time.Time, most int) (many int, err error) {
	s, done, err := q.use()
	if err != nil {
		return 0, err
	}
	defer done()
	end := queue.FirstID(before)
	if end, many, err = beyond(ctx, s.db, end, most); err != nil {
		return 0, err
	}
	b := s.db.NewBatch()
	if err := errors.Join(
		b.DeleteRange([]byte{lifeKey}, keyOf(end).at(lifeKey), nil),
		b.DeleteRange([]byte{wordKey}, wordAt(dayOf(end), hash{}, nil), nil),
	); err != nil {
		return 0, errors.Join(err, b.Close())
	}
	return many, s.commit(b, true)
}

// beyond returns the first id of the newest lives, of which there are most, and
// how many of those from end on come before it.
func beyond(ctx context.Context, r lib.Reader, end string, most int) (first string, many int, err error) {
	it, err := r.NewIter(&lib.IterOptions{LowerBound: keyOf(end).at(lifeKey), UpperBound: []byte{lifeKey + 1}})
	if err != nil {
		return end, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for ok := it.Last(); ok; ok = it.Prev() { // no value is read
		if n++; n == most {
			if k, good := keyIn(it.Key()); good {
				end = k.String()
			}
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return end, 0, context.Cause(ctx)
		}
	}
	return end, max(n-most, 0), it.Error()
}
