package queuetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern/internal/problem"
	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

// thePolicy grants what the tests need: anna may send as anybody to anybody,
// and sales@ours.example is an alias of three, two of them elsewhere.
var thePolicy = func() *policy.Policy {
	everybody := must(policy.ParseSenders("*"))
	p, err := policy.Compile(policy.Source{
		Hash: "test", Hostname: must(mail.ParseDomain("mx.ours.example")),
		Listeners: []policy.Listener{{Name: "mx", Role: policy.MX}, {Name: "submission", Role: policy.Submission}},
		Domains: []policy.Domain{{
			Name: must(mail.ParseDomain("ours.example")), Mailboxes: []string{"anna"},
			Aliases: []policy.Alias{{
				Name:   "sales",
				To:     []mail.Address{must(mail.ParseAddress("anna@ours.example")), must(mail.ParseAddress("ben@near.example")), must(mail.ParseAddress("cleo@far.example"))},
				Sender: must(mail.ParseReversePath("<owner-sales@ours.example>")),
			}},
		}},
		Users: []policy.User{{Name: "anna", MaySendAs: []policy.Senders{everybody}}},
	})
	if fatal, _ := problem.Split(err); fatal != nil {
		panic(fatal)
	}
	return p
}()

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Grant returns a grant of the tests' policy; from is a reverse-path, to a
// forward-path, both in brackets.
func Grant(from, to string) policy.Grant {
	path := must(mail.ParseForwardPath(to))
	c := policy.Client{Listener: "submission", Addr: netip.MustParseAddr("192.0.2.7"), TLS: true, Identity: "anna"}
	if path.Address().Domain().ASCII() == "ours.example" {
		c = policy.Client{Listener: "mx", Addr: netip.MustParseAddr("192.0.2.7")}
	}
	g, refusal := thePolicy.Decide(c, must(mail.ParseReversePath(from)), path)
	if refusal != nil {
		panic(fmt.Sprintf("%s to %s: %v", from, to, refusal))
	}
	return g
}

var lastID struct {
	sync.Mutex
	id string
}

// newID returns an id that sorts after all before it, also within a millisecond,
// so that tests know which message is the oldest.
func newID() string {
	lastID.Lock()
	defer lastID.Unlock()
	if id := queue.NewID(); id > lastID.id {
		lastID.id = id
		return id
	}
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	b := []byte(lastID.id)
	for i := len(b) - 1; ; i-- { // one more
		if n := strings.IndexByte(digits, b[i]) + 1; n < len(digits) {
			b[i] = digits[n]
			break
		}
		b[i] = digits[0]
	}
	lastID.id = string(b)
	return lastID.id
}

// NewLetter returns a letter of a new id, received at the given time.
func NewLetter(at time.Time, from string, to ...string) queue.Letter {
	l := queue.Letter{
		ID: newID(), From: must(mail.ParseReversePath(from)),
		Params: mail.SenderParams{Body: mail.Body8BitMIME, Ret: mail.RetHeaders, EnvID: "e1"},
		Origin: queue.Origin{
			Session: queue.NewID(), Listener: "submission", Peer: netip.MustParseAddr("192.0.2.7"),
			Helo: "pc.ours.example", Identity: "anna", TLS: "TLS 1.3", At: at,
		},
	}
	for _, path := range to {
		l.To = append(l.To, queue.Accepted{Grant: Grant(from, path), Params: mail.RecipientParams{Notify: mail.NotifyFailure}})
	}
	return l
}

// Text returns a body of that many octets, the same for the same seed and no
// other.
func Text(seed uint64, size int) []byte {
	var key [32]byte
	copy(key[:], fmt.Sprint("postern ", seed, " ", size))
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b)
	copy(b, "Subject: test\r\n\r\n")
	return b
}

// Cut is a reader that gives what is in Text and then fails with Err.
type Cut struct {
	Text *bytes.Reader
	Err  error
}

// Read implements io.Reader.
func (c Cut) Read(p []byte) (int, error) {
	if n, err := c.Text.Read(p); err == nil {
		return n, nil
	}
	return 0, c.Err
}
