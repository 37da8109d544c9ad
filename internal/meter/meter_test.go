package meter_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"postern/internal/meter"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func open(t testing.TB, dir string) *meter.Meter {
	t.Helper()
	m, err := meter.Open(dir, noon, func(err error) { t.Errorf("reported: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// to makes addresses that are not ours, but for those of example.org.
func to(domains ...string) (list []meter.Address) {
	for _, d := range domains {
		list = append(list, meter.Address{Destination: d, Leaves: d != "example.org"})
	}
	return list
}

// row is what a report says of a name.
func row(r meter.Report, name string) meter.Sums {
	for _, each := range r.Rows {
		if each.Name == name {
			return each.Sums
		}
	}
	return meter.Sums{}
}

func TestWhatIsCounted(t *testing.T) {
	m := meter.New()
	m.Accepted(noon, meter.Message{Who: "anna", From: addr("192.0.2.20"), To: to("far.example", "slow.example", "example.org", "far.example"), Size: 100})
	m.Accepted(noon, meter.Message{Who: "anna", From: addr("192.0.2.21"), To: to("far.example"), Size: 7, Held: true})
	m.Accepted(noon, meter.Message{From: addr("2001:db8::1:2:3:4"), To: to("example.org"), Size: 1000})
	m.Refused(noon, "", addr("2001:db8::1:2:3:5"))
	m.Delivery(noon, "anna", addr("192.0.2.20"), "far.example", meter.Sums{Delivered: 1, Out: 100})
	m.Delivery(noon, "anna", addr("192.0.2.20"), "slow.example", meter.Sums{Deferred: 1})
	m.Delivery(noon, meter.Ourselves, netip.Addr{}, "", meter.Sums{Failed: 1})
	m.Delivery(noon, "nobody", addr("198.51.100.1"), "none.example", meter.Sums{}) // nothing is no row
	anna := meter.Sums{Messages: 2, Recipients: 5, In: 107, Leaves: 200, Held: 1, HeldTo: 1, Delivered: 1, Out: 100, Deferred: 1}
	for _, c := range []struct {
		by   meter.Dimension
		name string
		want meter.Sums
	}{
		{meter.Identity, "anna", anna},
		{meter.Identity, meter.Strangers, meter.Sums{Messages: 1, Recipients: 1, In: 1000, Refused: 1}},
		{meter.Identity, meter.Ourselves, meter.Sums{Failed: 1}},
		{meter.Client, "192.0.2.0/24", anna},
		{meter.Client, "2001:db8::/64", meter.Sums{Messages: 1, Recipients: 1, In: 1000, Refused: 1}},
		{meter.Client, meter.Nowhere, meter.Sums{Failed: 1}},
		{meter.Destination, "far.example", meter.Sums{Messages: 2, Recipients: 3, In: 107, Leaves: 100, Held: 1, HeldTo: 1, Delivered: 1, Out: 100}},
		{meter.Destination, "slow.example", meter.Sums{Messages: 1, Recipients: 1, In: 100, Leaves: 100, Deferred: 1}},
		{meter.Destination, "example.org", meter.Sums{Messages: 2, Recipients: 2, In: 1100}},
		{meter.Destination, meter.Nowhere, meter.Sums{Failed: 1}},
	} {
		if got := row(m.Since(noon, noon, c.by), c.name); got != c.want {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", c.by, c.name, got, c.want)
		}
	}
	if r := m.Since(noon, noon, meter.Identity); len(r.Rows) != 3 || r.Rows[0].Name != "anna" {
		t.Errorf("%d rows, want 3; %s is first, and anna sent most", len(r.Rows), r.Rows[0].Name)
	}
}

func TestHoursAndMonths(t *testing.T) {
	m := meter.New()
	one := func(at time.Time) { m.Accepted(at, meter.Message{Who: "anna", To: to("far.example"), Size: 1}) }
	last := time.Date(2026, 10, 31, 23, 59, 59, 0, time.UTC)
	one(last)
	one(last.Add(time.Second)) // November
	one(noon.Add(-25 * time.Hour))
	one(noon.Add(-time.Hour))
	one(noon)
	for _, c := range []struct {
		name string
		got  meter.Report
		want int64
	}{
		{"an hour", m.Since(noon, noon, meter.Identity), 1},
		{"a day", m.Since(noon, noon.Add(-24*time.Hour), meter.Identity), 2},
		{"all", m.Since(noon, last, meter.Identity), 5},
		{"October", m.Month(noon, last, meter.Identity), 1},
		{"November", m.Month(noon, noon, meter.Identity), 4},
		{"December", m.Month(noon, noon.AddDate(0, 1, 0), meter.Identity), 0},
	} {
		if c.got.Total.Messages != c.want {
			t.Errorf("%s: %d messages, want %d", c.name, c.got.Total.Messages, c.want)
		}
	}
	if d, all := m.Leaves(noon, meter.Daily, "anna"), m.Leaves(noon, meter.Monthly, ""); d != 2 || all != 4 {
		t.Errorf("anna's leaves today %d, want 2; all this month %d, want 4", d, all)
	}
	later := noon.AddDate(0, 3, 0)
	one(later)
	if got := m.Since(later, last, meter.Identity).Total.Messages; got != 1 {
		t.Errorf("after three months %d messages by hours, want the last", got)
	}
	if got := m.Month(later, last, meter.Identity).Total.Messages; got != 1 {
		t.Errorf("after three months October has %d messages", got)
	}
	one(noon.AddDate(3, 0, 0))
	if got := m.Month(noon.AddDate(3, 0, 0), last, meter.Identity).Total.Messages; got != 0 {
		t.Errorf("after three years October still has %d messages", got)
	}
}

// A clock that is set back counts on, and nothing twice.
func TestClockGoesBack(t *testing.T) {
	m := meter.New()
	for _, at := range []time.Time{noon, noon.Add(-5 * time.Hour), noon.Add(time.Hour), noon} {
		m.Accepted(at, meter.Message{Who: "anna", Size: 1})
	}
	if got := m.Month(noon, noon, meter.Identity).Total.Messages; got != 4 {
		t.Errorf("%d messages, want 4", got)
	}
}

// A clock that was far ahead and was set leaves nothing behind that counts for
// ever, before a restart or after it.
func TestClockWasWrong(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	one := func(at time.Time) { m.Accepted(at, meter.Message{Who: "anna", Size: 1}) }
	one(noon)
	ahead := noon.AddDate(4, 0, 0)
	one(ahead)
	one(ahead.Add(time.Hour))
	one(noon.Add(time.Minute)) // and what was of the future's last hour
	one(noon.Add(2 * time.Hour))
	if got := m.Since(noon.Add(2*time.Hour), noon.Add(2*time.Hour), meter.Identity).Total.Messages; got < 1 {
		t.Errorf("%d messages in this hour", got)
	}
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	m, err := meter.Open(dir, noon.Add(2*time.Hour), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	one(noon.Add(3 * time.Hour))
	if got := m.Since(noon.Add(3*time.Hour), noon.Add(3*time.Hour), meter.Identity).Total.Messages; got != 1 {
		t.Errorf("after a restart, %d messages in the hour, want 1", got)
	}
	if got := m.Month(noon, ahead, meter.Identity).Total.Messages; got != 0 {
		t.Errorf("the month that is to come has %d messages", got)
	}
}

// Whatever is in the files, the relay starts; what it takes from them agrees,
// and is the same when it is written and read again.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	m := open(f, dir)
	for i := range 5 {
		m.Judge(noon.Add(time.Duration(i)*time.Hour), "anna", 200, meter.Floor)
		m.Accepted(noon.Add(time.Duration(i)*time.Hour), meter.Message{Who: "anna", From: addr("192.0.2.20"), To: to("far.example", "example.org"), Size: 3})
		m.Decide(noon.Add(time.Duration(i)*time.Hour), "anna", i%2 == 0)
	}
	if err := m.Save(dir); err != nil {
		f.Fatal(err)
	}
	names := []string{"2026-11-24.json", "months.json", "breakouts.json"}
	var seed []string
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		seed = append(seed, string(text))
	}
	f.Add(seed[0], seed[1], seed[2])
	f.Add("", "{}", `{"version":1,"open":{},"accepted":{},"settled":{}}`)
	f.Add(`{"version":1,"hours":{"2026-11-24T12:00:00+05:30":{"total":{},"by":{}}}}`, `{"version":1,"through":"9999-01-01T00:00:00Z","months":{"9999-01":{}}}`, "null")
	now := noon.Add(5 * time.Hour)
	f.Fuzz(func(t *testing.T, day, months, watch string) {
		dir := t.TempDir()
		for i, text := range []string{day, months, watch} {
			if err := os.WriteFile(filepath.Join(dir, names[i]), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, err := meter.Open(dir, now, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		m.Accepted(now, meter.Message{Who: "anna", From: addr("192.0.2.20"), To: to("far.example")})
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		again := must(meter.Open(dir, now, func(err error) { t.Errorf("what was written cannot be read: %v", err) }))
		for d := range meter.Destination + 1 {
			one, two := m.Since(now, noon.Add(-30*24*time.Hour), d), again.Since(now, noon.Add(-30*24*time.Hour), d)
			if diff := cmp.Diff(one, two); diff != "" {
				t.Errorf("hours by %s:\n%s", d, diff)
			}
			if diff := cmp.Diff(m.Month(now, now, d), again.Month(now, now, d)); diff != "" {
				t.Errorf("the month by %s:\n%s", d, diff)
			}
			if d != meter.Destination && total(one.Rows) != one.Total {
				t.Errorf("by %s the rows do not agree with %+v", d, one.Total)
			}
		}
		if diff := cmp.Diff(m.Breakouts(), again.Breakouts()); diff != "" {
			t.Error(diff)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestRates(t *testing.T) {
	m := meter.New()
	for i := range 100 { // ten a second
		m.Accepted(noon.Add(time.Duration(i)*100*time.Millisecond), meter.Message{Who: "anna"})
	}
	m.Delivery(noon, "anna", netip.Addr{}, "far.example", meter.Sums{Delivered: 20})
	for _, c := range []struct {
		after time.Duration
		want  meter.Rates
	}{
		{0, meter.Rates{}}, // the second that lasts is not over
		{10 * time.Second, meter.Rates{In: 10, Out: 2}},
		{15 * time.Second, meter.Rates{In: 5}},
		{time.Hour, meter.Rates{}},
	} {
		if got := m.Rates(noon.Add(c.after)); got != c.want {
			t.Errorf("after %v: %+v, want %+v", c.after, got, c.want)
		}
	}
}

// The sums by identity, those by network and the totals agree, however many
// names there are and however time passes; by destination, the addresses do.
// What is read from the disk is what was written.
func TestSumsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "meter")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		m, now, latest := meter.New().Narrow(), noon, noon
		var naive meter.Sums
		name := rapid.SampledFrom([]string{"", "anna", "ben", "cleo", "dora", "emil", "fritz", "gerda", "hugo"})
		domain := rapid.SampledFrom([]string{"", "a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example"})
		where := rapid.Custom(func(t *rapid.T) netip.Addr {
			return netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 9).Draw(t, "net")), 1})
		})
		n := rapid.Int64Range(0, 3)
		t.Repeat(map[string]func(*rapid.T){
			"accept": func(t *rapid.T) {
				a := meter.Message{
					Who: name.Draw(t, "who"), From: where.Draw(t, "from"), To: to(rapid.SliceOfN(domain, 1, 5).Draw(t, "to")...),
					Size: n.Draw(t, "size"), Held: rapid.Bool().Draw(t, "held"),
				}
				m.Accepted(now, a)
				naive.Messages++
				naive.In += a.Size
				naive.Recipients += int64(len(a.To))
				if a.Held {
					naive.Held++
				}
			},
			"refuse": func(t *rapid.T) {
				m.Refused(now, name.Draw(t, "who"), where.Draw(t, "from"))
				naive.Refused++
			},
			"deliver": func(t *rapid.T) {
				s := meter.Sums{Delivered: n.Draw(t, "delivered"), Out: n.Draw(t, "out"), Deferred: n.Draw(t, "deferred"), Failed: n.Draw(t, "failed")}
				m.Delivery(now, name.Draw(t, "who"), where.Draw(t, "from"), domain.Draw(t, "to"), s)
				naive.Delivered += s.Delivered
				naive.Failed += s.Failed
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-10, 300).Draw(t, "minutes")) * time.Minute)
				// By more than an hour the clock was wrong: see TestClockWasWrong.
				if latest = latest.Add(max(0, now.Sub(latest))); now.Before(latest.Add(-time.Hour)) {
					now = latest.Add(-time.Hour)
				}
			},
			"stop": func(t *rapid.T) {
				if err := m.Save(dir); err != nil {
					t.Fatal(err)
				}
				again, err := meter.Open(dir, now, func(err error) { t.Errorf("reported: %v", err) })
				if err != nil {
					t.Fatal(err)
				}
				again.Narrow()
				for d := range meter.Destination + 1 {
					if diff := cmp.Diff(m.Since(now, noon.AddDate(0, 0, -30), d), again.Since(now, noon.AddDate(0, 0, -30), d)); diff != "" {
						t.Errorf("read back by %s:\n%s", d, diff)
					}
				}
				m = again
			},
			"": func(t *rapid.T) {
				months := meter.Sums{}
				for at := noon.AddDate(0, -1, 0); at.Before(now.AddDate(0, 2, 0)); at = at.AddDate(0, 1, 0) {
					r := m.Month(now, at, meter.Identity)
					months.Messages += r.Total.Messages
					months.Recipients += r.Total.Recipients
					if got := total(r.Rows); got != r.Total {
						t.Fatalf("%s: rows %+v, total %+v", at, got, r.Total)
					}
				}
				if months.Messages != naive.Messages || months.Recipients != naive.Recipients {
					t.Fatalf("by month %+v, sent %+v", months, naive)
				}
				if now.Sub(noon) > 30*24*time.Hour { // what is older than 35 days is not there by hours
					return
				}
				for d := range meter.Destination + 1 {
					r := m.Since(now, noon.AddDate(0, 0, -1), d)
					sum := total(r.Rows)
					if d == meter.Destination {
						if sum.Recipients != naive.Recipients || sum.Delivered != naive.Delivered || sum.Failed != naive.Failed {
							t.Fatalf("by destination %+v, sent %+v", sum, naive)
						}
						continue
					}
					if sum != r.Total || r.Total.Messages != naive.Messages || r.Total.In != naive.In || r.Total.Refused != naive.Refused || r.Total.Held != naive.Held {
						t.Fatalf("by %s %+v, total %+v, sent %+v", d, sum, r.Total, naive)
					}
				}
			},
		})
	})
}

func total(rows []meter.Row) (s meter.Sums) {
	for i := range rows {
		s.Add(&rows[i].Sums)
	}
	return s
}

// Strangers cannot make the relay remember more than it has room for.
func TestNamesAreBounded(t *testing.T) {
	m := meter.New()
	for h := range 3 {
		at := noon.Add(time.Duration(h) * time.Hour)
		for i := range 10_000 {
			m.Accepted(at, meter.Message{From: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), To: to(fmt.Sprintf("d%d.example", i)), Size: 1})
		}
		if h == 0 {
			r := m.Since(at, at, meter.Client)
			if len(r.Rows) != 4097 || row(r, meter.Others).Messages != 10_000-4096 {
				t.Errorf("%d networks, %d messages of others", len(r.Rows), row(r, meter.Others).Messages)
			}
		}
	}
	if r := m.Since(noon.Add(time.Hour), noon, meter.Destination); r.Total.Messages != 30_000 {
		t.Errorf("%d messages in all", r.Total.Messages)
	}
	one := m.Since(noon.Add(3*time.Hour), noon, meter.Client)
	if total(one.Rows) != one.Total || len(one.Rows) > 4097+200 {
		t.Errorf("%d rows, %+v of %+v", len(one.Rows), total(one.Rows), one.Total)
	}
}

func TestDamagedFiles(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"2026-11-24.json", "{\"version\":1,", "unexpected EOF"},
		{"2026-11-24.json", `{"version":1,"hours":{"2026-11-24T12:00:00Z":{"total":{"messages":2},"by":{"identity":{"anna":{"messages":1}}}}}}`, "the sums do not agree"},
		{"months.json", "\x00\x00\x00", "invalid character"},
		{"months.json", `{"version":2,"through":"2026-11-24T11:00:00Z","months":{}}`, "it is of version 2, and this postern writes 1"},
		{"breakouts.json", `{"version":1,"open":{"anna":null},"accepted":{}}`, `the breakout of "anna"`},
		{"breakouts.json", `{"version":1,"open":{},"accepted":{}} {}`, "something follows it"},
	} {
		dir := t.TempDir()
		m := open(t, dir)
		m.Accepted(noon.Add(-24*time.Hour), meter.Message{Who: "anna"})
		m.Accepted(noon, meter.Message{Who: "anna"})
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var reported []string
		m, err := meter.Open(dir, noon, func(err error) { reported = append(reported, err.Error()) })
		if err != nil || len(reported) != 1 || !strings.Contains(reported[0], c.want) || !strings.Contains(reported[0], path+".damaged") {
			t.Fatalf("%s %q: %v, reported %q, want %q", c.file, c.text, err, reported, c.want)
		}
		if _, err := os.Stat(path + ".damaged"); err != nil {
			t.Error(err)
		}
		// What the other files hold counts, and months come back from the days.
		want := int64(2)
		if c.file == "2026-11-24.json" {
			want = 1
		}
		if got := m.Month(noon, noon, meter.Identity).Total.Messages; got != want {
			t.Errorf("%s %q: %d messages, want %d", c.file, c.text, got, want)
		}
		m.Accepted(noon, meter.Message{Who: "ben"})
		if err := m.Save(dir); err != nil {
			t.Error(err)
		}
		if got := open(t, dir).Month(noon, noon, meter.Identity).Total.Messages; got != want+1 {
			t.Errorf("%s: saved again, %d messages, want %d", c.file, got, want+1)
		}
	}
}

// Only what changed is written, and days that are too old are removed.
func TestFilesOfDays(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	for day := range 40 {
		m.Accepted(noon.AddDate(0, 0, day), meter.Message{Who: "anna"})
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	list, err := filepath.Glob(filepath.Join(dir, "20*.json"))
	if err != nil || len(list) != 36 {
		t.Errorf("%d files of days, %v", len(list), err)
	}
	first, err := os.Stat(filepath.Join(dir, "2026-12-31.json"))
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if err := again.Save(dir); err != nil {
		t.Fatal(err)
	}
	if now, err := os.Stat(filepath.Join(dir, "2026-12-31.json")); err != nil || !os.SameFile(first, now) {
		t.Errorf("nothing was counted, and the file was written: %v", err)
	}
}

func TestDimensionsReadAsWritten(t *testing.T) {
	for _, d := range []meter.Dimension{meter.Identity, meter.Client, meter.Destination} {
		if got, ok := meter.ParseDimension(d.String()); !ok || got != d {
			t.Errorf("ParseDimension(%q) = %v, %v", d, got, ok)
		}
	}
	if _, ok := meter.ParseDimension("user"); ok {
		t.Error(`"user" is a dimension`)
	}
}

func BenchmarkAccepted(b *testing.B) {
	m, where := meter.New(), to("far.example")
	from := addr("192.0.2.20")
	b.ReportAllocs()
	for b.Loop() {
		m.Accepted(noon, meter.Message{Who: "anna", From: from, To: where, Size: 4096})
	}
}

func BenchmarkJudge(b *testing.B) {
	m := meter.New()
	for h := range 840 {
		m.Accepted(noon.Add(time.Duration(h)*time.Hour), meter.Message{Who: "anna", To: slices.Repeat(to("far.example"), 60)})
	}
	now := noon.Add(839 * time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		m.Judge(now, "anna", 50, meter.Floor)
	}
}

// Tunnels are in the same sums as mail: by who opened them, from where, to
// which place; what they carry is of a budget, both ways, and is kept.
func TestTunnels(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	m := meter.New()
	from := netip.MustParseAddr("192.0.2.20")
	m.Opened(now, "anna", from, "mail.example.org:587")
	m.Opened(now, "anna", from, "www.far.example:443")
	if got := m.Carried(now, "anna", from, "www.far.example:443", 100, 5000); got != 5100 {
		t.Errorf("%d octets leave", got)
	}
	if got := m.Carried(now, "anna", from, "www.far.example:443", 0, 0); got != 0 {
		t.Errorf("%d octets leave of nothing", got)
	}
	m.Carried(now.Add(2*time.Hour), "anna", from, "www.far.example:443", 11, 0)
	m.Accepted(now.Add(2*time.Hour), meter.Message{Who: "anna", From: from, To: []meter.Address{{"far.example", true}}, Size: 1000})
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := meter.Open(dir, now.Add(3*time.Hour), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(3 * time.Hour)
	for _, m := range []*meter.Meter{m, again} {
		want := meter.Sums{Messages: 1, Recipients: 1, In: 6000, Out: 111, Leaves: 6111, Tunnels: 2, Up: 111, Down: 5000}
		for _, d := range []meter.Dimension{meter.Identity, meter.Client} {
			r := m.Since(later, now, d)
			if len(r.Rows) != 1 || r.Rows[0].Sums != want || r.Total != want {
				t.Errorf("by %s: %+v", d, r)
			}
		}
		if r := m.Since(later, now, meter.Destination); len(r.Rows) != 3 || r.Rows[0].Name != "www.far.example:443" || r.Rows[0].Tunnels != 1 || r.Rows[0].Costs() != 5111 {
			t.Errorf("by destination: %+v", r.Rows)
		}
		if got := m.Leaves(later, meter.Daily, "anna"); got != 6111 {
			t.Errorf("%d octets of her budget, want 6111", got)
		}
	}
}
