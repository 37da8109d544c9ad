package collect

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/plan"
	"postern/verdict"
)

func arrivalOf(token string, at time.Time, header int) verdict.Arrival {
	return verdict.Arrival{Tokens: []plan.Token{plan.Token(token)}, Kind: verdict.Message, At: at, Peer: peerAddr, Header: strings.Repeat("h", header), Seen: verdict.SeenByPeer}
}

func tokensOf(list []verdict.Arrival) string {
	var names []string
	for _, a := range list {
		names = append(names, string(a.Tokens[0]))
	}
	return strings.Join(names, " ")
}

func TestStoreIsBounded(t *testing.T) {
	for _, c := range []struct {
		name string
		keep Keep
		want string
	}{
		{"by count", Keep{Arrivals: 2}, "c d"},
		{"by octets", Keep{Bytes: 25}, "c d"},
		{"by age", Keep{Age: 90 * time.Minute}, "c d"},
		{"not at all", Keep{}, "a b c d"},
	} {
		s := newStore(c.keep, testTime)
		for i, name := range []string{"a", "b", "c", "d"} {
			at := testTime.Add(time.Duration(i) * time.Hour)
			s.add(arrivalOf(name, at, 10), at)
		}
		list, next, _ := s.page(0)
		if tokensOf(list) != c.want || next != s.last() {
			t.Errorf("%s: %q up to %d, want %q up to %d", c.name, tokensOf(list), next, c.want, s.last())
		}
		if s.full("a") || len(s.perToken) != len(list) {
			t.Errorf("%s: counts %v of tokens beside %d arrivals", c.name, s.perToken, len(list))
		}
	}
}

func TestPages(t *testing.T) {
	s := newStore(Keep{}, testTime)
	for range 2*pageArrivals + 1 {
		s.add(arrivalOf("a", testTime, 1), testTime)
	}
	var sizes []int
	for after := uint64(0); ; {
		list, next, _ := s.page(after)
		if len(list) == 0 {
			break
		}
		sizes, after = append(sizes, len(list)), next
	}
	if !slices.Equal(sizes, []int{pageArrivals, pageArrivals, 1}) {
		t.Errorf("pages of %v", sizes)
	}
	if list, _, _ := s.page(s.last() + 1000); len(list) == 0 {
		t.Error("a number from a clock that went back hides all arrivals")
	}
	big := newStore(Keep{}, testTime)
	for range 5 {
		big.add(arrivalOf("a", testTime, pageBytes/2), testTime)
	}
	if list, _, _ := big.page(0); len(list) != 2 {
		t.Errorf("a page of %d long arrivals, want 2", len(list))
	}
}

func TestWaitEndsWithAnArrivalOrTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(Keep{}, time.Now())
		go func() {
			time.Sleep(time.Minute)
			s.add(arrivalOf("a", time.Now(), 1), time.Now())
		}()
		start := time.Now()
		list, next, err := s.wait(t.Context(), 0)
		if err != nil || len(list) != 1 || time.Since(start) != time.Minute {
			t.Errorf("wait = %v, %v after %v", list, err, time.Since(start))
		}
		over := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, over)
		defer cancel()
		if _, same, err := s.wait(ctx, next); !errors.Is(err, over) || same != next {
			t.Errorf("wait with nothing new = %d, %v, want %d, %v", same, err, next, over)
		}
	})
}

func TestArrivalsOutliveARestart(t *testing.T) {
	c := testConfig()
	c.State, c.Secret = filepath.Join(t.TempDir(), "state"), nil
	first := newTestLocal(t, c)
	token, late := mintOne(t, first), mintOne(t, first)
	if r := hand(t, first, "<a@b.example>", "<"+string(token)+"@probe.example>", "A: b\n\nc\n"); r.Code != 250 {
		t.Fatal(r)
	}
	seen := latest(t, first, 0)
	cursor := first.store.last()
	if err := first.journal.close(); err != nil {
		t.Fatal(err)
	}

	second := newTestLocal(t, c)
	again := latest(t, second, cursor)
	if len(again) != 1 || again[0].Header != seen[0].Header || !again[0].At.Equal(seen[0].At) || again[0].Peer != seen[0].Peer {
		t.Errorf("after the restart %+v, want %+v, also for who asks with a number of before", again, seen)
	}
	if r := hand(t, second, "<a@b.example>", "<"+string(late)+"@probe.example>", "A: b\n\nc\n"); r.Code != 250 {
		t.Errorf("a token of before the restart: %s", r)
	}
	info := must(os.Stat(filepath.Join(c.State, "arrivals.jsonl")))
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file of arrivals has mode %v, want 0600", info.Mode())
	}
}

func TestJournalAfterAPowerFailure(t *testing.T) {
	dir, keep := t.TempDir(), DefaultKeep
	j, _, _, err := openJournal(dir, keep, testTime)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := j.append(arrivalOf(name, testTime, 10), testTime); err != nil {
			t.Fatal(err)
		}
	}
	old := arrivalOf("old", testTime.Add(-keep.Age-time.Hour), 1)
	if err := j.append(old, testTime); err != nil {
		t.Fatal(err)
	}
	file := must(os.OpenFile(j.path, os.O_APPEND|os.O_WRONLY, 0))
	must(file.WriteString(strings.Repeat("x", maxLine+10) + "\n{}\n" + `{"tokens":["half`))
	file.Close()
	j, list, broken, err := openJournal(dir, keep, testTime)
	if err != nil || tokensOf(list) != "a b" || broken != 3 {
		t.Fatalf("read %q with %d broken lines, %v; want a b with 3", tokensOf(list), broken, err)
	}
	if err := j.append(arrivalOf("c", testTime, 1), testTime); err != nil {
		t.Fatal(err)
	}
	if _, list, broken, err = openJournal(dir, keep, testTime); err != nil || tokensOf(list) != "a b c" || broken != 0 {
		t.Errorf("afterwards %q with %d broken lines, %v; want a b c and none", tokensOf(list), broken, err)
	}
}

func TestJournalStaysSmall(t *testing.T) {
	dir, keep := t.TempDir(), Keep{Arrivals: 3, Bytes: 1000}.withDefaults()
	j, _, _, err := openJournal(dir, keep, testTime)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := j.append(arrivalOf("a", testTime, 100), testTime); err != nil {
			t.Fatal(err)
		}
	}
	if info := must(os.Stat(j.path)); info.Size() > 2*j.limit {
		t.Errorf("the file has %d octets, want no more than %d", info.Size(), 2*j.limit)
	}
	if left := must(os.ReadDir(dir)); len(left) != 1 {
		t.Errorf("%d files are left in the folder, want 1", len(left))
	}
}

func TestADiskThatFailsHidesNoArrival(t *testing.T) {
	c := testConfig()
	c.State = t.TempDir()
	var failed []error
	c.Failed = func(err error) { failed = append(failed, err) }
	l := newTestLocal(t, c)
	if err := l.journal.close(); err != nil { // every write fails from now on
		t.Fatal(err)
	}
	if r := hand(t, l, "<a@b.example>", "<"+string(mintOne(t, l))+"@probe.example>", "A: b\n\nc\n"); r.Code != 250 {
		t.Fatal(r)
	}
	if list := latest(t, l, 0); len(list) != 1 || len(failed) != 1 || !errors.Is(failed[0], os.ErrClosed) {
		t.Errorf("%d arrivals, told %v; want the arrival seen and the failure told", len(list), failed)
	}
}

func TestSecretFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if _, err := ReadSecret(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	made := must(MakeSecret(path))
	if info := must(os.Stat(path)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if again := must(MakeSecret(path)); again != made || len(made) < 32 {
		t.Errorf("made %q, then %q", made, again)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeSecret(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSecret(short); err == nil {
		t.Error("a secret of six octets is taken")
	}
}

func TestNewLocalRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no domain", func(c *Config) { c.Domain = Config{}.Domain }, "--collector"},
		{"short secret", func(c *Config) { c.Secret = []byte("short") }, "16 or more"},
	} {
		config := testConfig()
		c.change(&config)
		if _, err := NewLocal(config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// Whatever stands in the file, what is read from it can be written and reads
// the same.
func FuzzReadJournal(f *testing.F) {
	f.Add(`{"tokens":["pta"],"at":"2026-11-24T10:00:00Z","peer":"192.0.2.1:25","header":"A: b\r\n"}` + "\n{}\n")
	f.Add("\n\n\x00")
	keep := DefaultKeep
	f.Fuzz(func(t *testing.T, text string) {
		list, _, err := readJournal(strings.NewReader(text), keep, testTime)
		if err != nil {
			t.Fatal(err)
		}
		var again strings.Builder
		for _, a := range list {
			line, err := json.Marshal(a)
			if err != nil {
				return // a year beyond 9999 was read and is not written; append says so
			}
			again.Write(append(line, '\n'))
		}
		back, broken, err := readJournal(strings.NewReader(again.String()), keep, testTime)
		if err != nil || broken != 0 || len(back) != len(list) {
			t.Fatalf("%d arrivals of %q read back as %d, %d broken, %v", len(list), text, len(back), broken, err)
		}
	})
}
