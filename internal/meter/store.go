package meter

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/internal/problem"
	"postern/internal/state"
)

// What is kept stands in a folder: a file for each day with its hours, one of
// all months, one of breakouts. A day that is over is not written again.
const (
	monthsFile = "months.json"
	watchFile  = "breakouts.json"
)

func dayFile(hour int64) string { return startOf(hour).Format(time.DateOnly) + ".json" }

// version is that of the files. A newer one is moved aside as a damaged one
// is: the relay starts all the same.
const version = 1

type dayText struct {
	Version int                 `json:"version"`
	Hours   map[string]spanText `json:"hours"` // by their beginning, RFC 3339
}

type monthsText struct {
	Version int                 `json:"version"`
	Through time.Time           `json:"through"` // the last hour that is in the sums
	Months  map[string]spanText `json:"months"`  // as 2026-11
}

type watchText struct {
	Version int `json:"version"`
	watch
}

type spanText struct {
	Total Sums                       `json:"total"`
	By    map[string]map[string]Sums `json:"by"` // dimension, name
}

func (s *span) text() spanText {
	t := spanText{s.total, map[string]map[string]Sums{}}
	for d := range Dimension(len(s.by)) {
		names := make(map[string]Sums, len(s.by[d]))
		for name, sums := range s.by[d] {
			names[name] = *sums
		}
		t.By[d.String()] = names
	}
	return t
}

var errSums = errors.New("the sums do not agree")

func (t *spanText) span(most [dimensions]int) (*span, error) {
	s := newSpan()
	s.total = t.Total
	for d := range Dimension(len(s.by)) {
		var all Sums
		for name, sums := range t.By[d.String()] {
			all.Add(&sums)
			s.at(d, name, most[d]).Add(&sums)
		}
		if d != Destination && all != t.Total {
			return nil, fmt.Errorf("%w: by %s", errSums, d)
		}
	}
	return s, nil
}

// Save writes what has changed since it was last called.
func (m *Meter) Save(dir string) error {
	files := m.changed()
	var errs []error
	for _, name := range order(files) {
		text, err := json.Marshal(files[name])
		if err == nil {
			err = state.WriteFile(filepath.Join(dir, name), append(text, '\n'))
		}
		if err != nil {
			errs = append(errs, err)
			m.mu.Lock()
			m.dirty[name] = true
			m.mu.Unlock()
		}
	}
	return errors.Join(append(errs, m.tidy(dir))...)
}

// order puts days before months: hours that are in a day's file and not yet in
// the months are added when both are read.
func order(files map[string]any) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// changed returns what is to be written. The lock is held for the copy of the
// current hour, not while it is put into words.
func (m *Meter) changed() map[string]any {
	m.mu.Lock()
	dirty := m.dirty
	m.dirty = map[string]bool{}
	hours := make(map[int64]*span, len(m.hours)+1)
	for h, s := range m.hours {
		hours[h] = s
	}
	if m.counted {
		dirty[dayFile(m.now)], m.counted = true, false
	}
	if dirty[dayFile(m.now)] {
		hours[m.now] = m.hour()
	}
	files := map[string]any{}
	if dirty[monthsFile] {
		t := monthsText{version, startOf(m.through), map[string]spanText{}}
		for month, s := range m.months {
			t.Months[monthStart(month).Format("2006-01")] = s.text()
		}
		files[monthsFile] = t
	}
	if dirty[watchFile] {
		w := newWatch()
		for who, b := range m.watch.Open {
			copied := *b
			w.Open[who] = &copied
		}
		maps.Copy(w.Accepted, m.watch.Accepted)
		maps.Copy(w.Settled, m.watch.Settled)
		files[watchFile] = watchText{version, w}
	}
	m.mu.Unlock()
	for h, s := range hours {
		name := dayFile(h)
		if !dirty[name] || s.total == (Sums{}) {
			continue
		}
		t, ok := files[name].(dayText)
		if !ok {
			t = dayText{version, map[string]spanText{}}
			files[name] = t
		}
		t.Hours[startOf(h).Format(time.RFC3339)] = s.text()
	}
	return files
}

// tidy removes the files of days that are too old.
func (m *Meter) tidy(dir string) error {
	m.mu.Lock()
	first := dayFile(m.now - keptHours)
	m.mu.Unlock()
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range list {
		if isDay(f.Name()) && f.Name() < first {
			errs = append(errs, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return errors.Join(errs...)
}

func isDay(name string) bool {
	_, err := time.Parse(time.DateOnly+".json", name)
	return err == nil
}

// Open reads what Save has written. A file that is damaged is moved aside and
// reported; what is in the others counts.
func Open(dir string, now time.Time, report func(error)) (*Meter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	m := New()
	for _, f := range list {
		var read func([]byte) error
		switch name := f.Name(); {
		case isDay(name):
			read = m.readDay
		case name == monthsFile:
			read = m.readMonths
		case name == watchFile:
			read = m.readWatch
		default:
			continue
		}
		path := filepath.Join(dir, f.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("traffic: %w", err)
		}
		if err := read(text); err != nil {
			aside := path + ".damaged"
			report(problem.At(problem.Pos{File: path}, fmt.Sprintf("it cannot be read, and is moved to %s; what it counted is lost: %v", aside, err), "look at the disk; restore the file from a backup if the numbers matter"))
			if err := os.Rename(path, aside); err != nil {
				return nil, fmt.Errorf("traffic: %w", err)
			}
		}
	}
	m.resume(now)
	return m, nil
}

// resume goes on where the files end: the newest hour lasts until the clock
// says otherwise, and what is not in the months yet is added to them. What is
// of a time that is still to come was counted by a clock that was wrong.
func (m *Meter) resume(now time.Time) {
	for h := range m.hours {
		if h > hourOf(now)+1 {
			delete(m.hours, h)
		}
	}
	for month := range m.months {
		if month > monthOf(now.Add(time.Hour)) {
			delete(m.months, month)
		}
	}
	if m.through > hourOf(now)+1 {
		m.through = hourOf(now) - 1
	}
	newest := m.through + 1
	for h := range m.hours {
		newest = max(newest, h)
	}
	for h, s := range m.hours {
		if h > m.through && h < newest {
			month := monthOf(startOf(h))
			if m.months[month] == nil {
				m.months[month] = newSpan()
			}
			m.months[month].fold(s, m.most)
			m.dirty[monthsFile] = true
		}
	}
	m.through, m.now = max(m.through, newest-1), newest
	if s := m.hours[newest]; s != nil {
		m.current = s
		delete(m.hours, newest)
	}
}

func (m *Meter) readDay(text []byte) error {
	var t dayText
	if err := strict(text, &t, &t.Version); err != nil {
		return err
	}
	read := map[int64]*span{}
	for at, each := range t.Hours {
		begins, err := time.Parse(time.RFC3339, at)
		if err != nil || begins.Unix() < 0 {
			return fmt.Errorf("%q is no hour", at)
		}
		if read[hourOf(begins)], err = each.span(m.most); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	for h, s := range read {
		m.hours[h] = s
	}
	return nil
}

func (m *Meter) readMonths(text []byte) error {
	var t monthsText
	if err := strict(text, &t, &t.Version); err != nil {
		return err
	}
	read := map[int]*span{}
	for at, each := range t.Months {
		begins, err := time.Parse("2006-01", at)
		if err != nil {
			return fmt.Errorf("%q is no month", at)
		}
		if read[monthOf(begins)], err = each.span(m.most); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	m.months = read
	m.through = hourOf(t.Through)
	return nil
}

func (m *Meter) readWatch(text []byte) error {
	t := watchText{watch: newWatch()}
	if err := strict(text, &t, &t.Version); err != nil {
		return err
	}
	for who, b := range t.Open {
		if b == nil || b.Who != who || b.Why == "" {
			return fmt.Errorf("the breakout of %q has another name, or no reason", who)
		}
	}
	if t.Open == nil || t.Accepted == nil || t.Settled == nil {
		return errors.New("a part is missing")
	}
	m.watch = t.watch
	return nil
}

// strict reads one value of this version and nothing beside it.
func strict(text []byte, v any, got *int) error {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows it")
	}
	if *got != version {
		return fmt.Errorf("it is of version %d, and this postern writes %d", *got, version)
	}
	return nil
}
