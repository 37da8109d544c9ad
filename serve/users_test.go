package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"postern/guard"
	"postern/internal/identity"
	"postern/internal/state"
	"postern/policy"
	"postern/smtp"
)

// A token has what its user has, wherever that is written, at each decision.
func TestTokensFollowTheirUsers(t *testing.T) {
	store := must(identity.Open(t.TempDir()))
	list := func(words ...string) []policy.Senders { return senders(words) }
	for name, as := range map[string][]string{"anna": {"anna@example.org", "*@example.com"}, "bert": nil, "carl": {"carl@example.org"}, "off": {"off@example.org"}} {
		if err := store.Add(identity.NewUser{Name: name, Certificate: true, MaySendAs: as}); err != nil {
			t.Fatal(err)
		}
	}
	for user, tokens := range map[string][]identity.NewToken{
		"anna": {{Name: "all"}, {Name: "scan", MaySendAs: []string{"scan@example.com"}, Gateway: true}},
		"bert": {{Name: "all"}, {Name: "sales", MaySendAs: []string{"sales@acme.example"}, Users: []string{"bert@acme.example", "sales@acme.example"}}},
		"carl": {{Name: "all"}},
		"off":  {{Name: "all"}},
	} {
		for _, k := range tokens {
			must(store.AddToken(user, k))
		}
	}
	if err := store.Disable("off"); err != nil {
		t.Fatal(err)
	}
	written := []policy.User{
		{Name: "bert", MaySendAs: list("bert@acme.example", "sales@acme.example")},
		{Name: "carl", MaySendAs: list("boss@acme.example")},
		{Name: "off", MaySendAs: list("off@acme.example")},
	}
	got := map[string]string{}
	for _, u := range WithStored(written, store) {
		got[u.Name] = fmt.Sprint(Words(u.MaySendAs), u.MailOnly)
	}
	want := map[string]string{
		"anna": "[anna@example.org *@example.com] false", "anna/all": "[anna@example.org *@example.com] true", "anna/scan": "[scan@example.com] false",
		"bert": "[bert@acme.example sales@acme.example] false", "bert/all": "[bert@acme.example sales@acme.example] true", "bert/sales": "[sales@acme.example] true",
		"carl": "[boss@acme.example] false", "carl/all": "[boss@acme.example] true",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// The configuration takes something away, and then the user.
	written[0].MaySendAs = list("bert@acme.example")
	for _, u := range WithStored(written[:1], store) {
		if words := fmt.Sprint(Words(u.MaySendAs)); u.Name == "bert/all" && words != "[bert@acme.example]" || u.Name == "bert/sales" && words != "[]" {
			t.Errorf("%s may still send as %s", u.Name, words)
		}
	}
}

// Who is in the store and not yet in the policy is told to come again, and not
// that there is no place for them.
func TestALoginThatIsNotInForceYet(t *testing.T) {
	store := must(identity.Open(t.TempDir()))
	if err := store.Add(identity.NewUser{Name: "carl", Password: password}); err != nil {
		t.Fatal(err)
	}
	source := ordinary().Policy
	in := func() *policy.Policy { return must(policy.Compile(source)) }
	l := logins{identity.NewLogin(identity.Options{Store: store}), in}
	login := func() guard.LoginResult {
		return l.Login(t.Context(), guard.LoginClient{Addr: netip.MustParseAddr("192.0.2.1"), Private: true}, "PLAIN", []byte("\x00carl\x00"+password),
			func([]byte) ([]byte, error) { return nil, errors.New("all was said") })
	}
	if r := login(); r.Identity != "" || r.Reply.Code != 454 {
		t.Errorf("before it is in force: %q, %s", r.Identity, r.Reply)
	}
	source.Users = append(source.Users, policy.User{Name: "carl"})
	if r := login(); r.Identity != "carl" || r.Reply.Code != 235 {
		t.Errorf("after: %q, %s", r.Identity, r.Reply)
	}
}

func (r *running) loggedIn(user, password string) *smtp.Client {
	r.t.Helper()
	client := r.dial("submission")
	if err := errors.Join(client.StartTLS(r.t.Context(), &tls.Config{InsecureSkipVerify: true}), client.Auth(r.t.Context(), user, password)); err != nil {
		r.t.Fatalf("%s: %v", user, err)
	}
	return client
}

// What a command changed is in force when it comes back.
func TestChangedUsersAreInForceAtOnce(t *testing.T) {
	t.Parallel()
	r := run(t, only(loopback(ordinary()), "submission"))
	store, control := must(identity.Open(r.state)), Dial(r.state) // as a command does
	changed := func(err error, forgive ...string) {
		t.Helper()
		if err = errors.Join(err, control.UsersChanged(t.Context(), forgive...)); err != nil {
			t.Fatal(err)
		}
	}
	changed(store.Add(identity.NewUser{Name: "carl", Password: password, MaySendAs: []string{"carl@example.org"}}))
	carl := r.loggedIn("carl", password)
	if got := r.send(carl, "<carl@example.org>", "<b@elsewhere.example>"); !got.Positive() {
		t.Errorf("carl, who is new: %s", got)
	}
	secret := must(store.AddToken("carl", identity.NewToken{Name: "shop"}))
	changed(nil)
	shop := r.loggedIn("carl/shop", string(secret))
	if got := r.send(shop, "<carl@example.org>", "<b@elsewhere.example>"); !got.Positive() {
		t.Errorf("a token that is new: %s", got)
	}
	changed(store.SetSenders("carl", []string{"sales@example.org"}))
	if old, now := r.send(shop, "<carl@example.org>", "<b@elsewhere.example>"), r.send(shop, "<sales@example.org>", "<b@elsewhere.example>"); old.Code != 553 || !now.Positive() {
		t.Errorf("after the user's rights changed: %s, %s", old, now)
	}
	changed(store.Disable("carl"))
	for _, c := range []*smtp.Client{carl, shop} {
		if got := r.send(c, "<sales@example.org>", "<b@elsewhere.example>"); got.Code != 550 {
			t.Errorf("disabled: %s", got)
		}
	}
	if list := r.queued(); len(list) != 3 || !strings.Contains(list[2].Hold, "is disabled") {
		t.Errorf("queue = %+v", list)
	}
	before := r.current.Load()
	changed(nil)
	if r.current.Load() != before {
		t.Error("what was in force was judged again")
	}
	if err := control.Post(t.Context(), "/users/flush", &struct{}{}); err != nil {
		t.Fatal(err)
	}
	if u := must(identity.Open(r.state)).List()[0]; u.LastUse.IsZero() || u.Tokens[0].LastUse.IsZero() {
		t.Errorf("the last uses are not written: %+v", u)
	}
}

// Who failed too often is listed, and a new password or enable forgives.
func TestLockedLoginsAreListedAndForgiven(t *testing.T) {
	t.Parallel()
	r := run(t, only(loopback(ordinary()), "submission"))
	if err := r.users.Add(identity.NewUser{Name: "anna", Password: password}); err != nil {
		t.Fatal(err)
	}
	control := Dial(r.state)
	login := identity.NewLogin(identity.Options{Store: r.users, Guesses: r.guesses, Pool: r.pool})
	fail := func() {
		for range 5 {
			login.Authenticate(t.Context(), identity.Client{Addr: netip.MustParseAddr("192.0.2.1"), Private: true}, "PLAIN", []byte("\x00anna\x00wrong"), nil)
		}
	}
	locked := func() string {
		t.Helper()
		var list LockedLogins
		if err := control.Get(t.Context(), "/users/locked", &list); err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, l := range list.Locked {
			text += fmt.Sprintf("%s from %s: %d\n", l.Who, l.From, l.Failures)
		}
		return text
	}
	for name, forgive := range map[string]func(context.Context) error{
		"a change": func(ctx context.Context) error { return control.UsersChanged(ctx, "anna") },
		"unlock":   func(ctx context.Context) error { return control.Post(ctx, "/users/unlock?who=anna", &struct{}{}) },
	} {
		fail()
		if got, want := locked(), "anna from 192.0.2.0/24: 5\n"; !strings.Contains(got, want) {
			t.Errorf("%s: locked are %q, want %q", name, got, want)
		}
		if err := forgive(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := locked(); strings.Contains(got, "anna") {
			t.Errorf("%s: locked are still %q", name, got)
		}
	}
}

// A user of whom nobody was told the password is not made.
func TestFirstUserOfAStartThatFails(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	s.Local = true
	s.Listeners[0].Addrs = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:25")} // no address of this machine
	folder := must(state.Open(filepath.Join(t.TempDir(), "s")))
	defer func() { _ = folder.Close() }() // nothing was written
	if _, err := New(t.Context(), Options{State: folder, Log: slog.New(slog.DiscardHandler), Load: func() (Settings, error) { return s, nil }}); err == nil {
		t.Fatal("it started")
	}
	if list := must(identity.Open(folder.Path)).List(); len(list) != 0 {
		t.Errorf("users are left: %+v", list)
	}
}
