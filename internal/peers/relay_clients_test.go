package peers

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/serve"
)

// A client is a program of Debian's that sends mail, and how it is told to send one message.
type client struct {
	name  string
	login []string // which port, how encrypted, which mechanism
	// command is the program's words for a server's address, a sender and a recipient. mechanism is
	// empty for a stranger, who comes to port 25.
	command func(host, port, mechanism, from, to string) []string
	stdin   func(host, port, from, to string) string
}

const letter = "From: <anna@victim.example>\r\nSubject: from a real client\r\n\r\none line\r\n"

func textOnStdin(_, _, _, _ string) string { return letter }

// clients names every program with the ports and mechanisms by which it logs in.
var clients = []client{
	{
		name: "swaks", login: []string{"587 PLAIN", "587 LOGIN", "465 PLAIN", "465 LOGIN"},
		command: func(host, port, mechanism, from, to string) []string {
			args := []string{"/usr/bin/swaks", "--server", host, "--port", port, "--helo", "client.example", "--from", from, "--to", to}
			if strings.Contains(host, ":") {
				args = append(args, "-6")
			}
			switch port {
			case "465":
				args = append(args, "--tls-on-connect")
			case "587":
				args = append(args, "--tls")
			}
			if mechanism != "" {
				args = append(args, "--auth", mechanism, "--auth-user", "anna", "--auth-password", Password)
			}
			return args
		},
	},
	{
		// As Thunderbird does it: SCRAM over implicit TLS.
		name: "msmtp", login: []string{"465 scram-sha-256", "465 plain", "587 scram-sha-256"},
		command: func(host, port, mechanism, from, to string) []string {
			args := []string{"/usr/bin/msmtp", "--host=" + host, "--port=" + port, "--domain=client.example", "--from=" + from}
			if port == "25" {
				args = append(args, "--tls=off", "--auth=off")
			} else {
				args = append(args, "--tls=on", "--tls-certcheck=off", "--auth="+mechanism, "--user=anna", "--passwordeval=echo "+Password)
			}
			if port == "465" {
				args = append(args, "--tls-starttls=off")
			}
			return append(args, to)
		},
		stdin: textOnStdin,
	},
	{
		name: "curl", login: []string{"465 PLAIN", "587 PLAIN", "587 LOGIN"},
		command: func(host, port, mechanism, from, to string) []string {
			scheme := map[string]string{"465": "smtps"}[port]
			if scheme == "" {
				scheme = "smtp"
			}
			args := []string{"/usr/bin/curl", "-sSv", "-k", "--url", scheme + "://" + net.JoinHostPort(host, port) + "/client.example", "--mail-from", from, "--mail-rcpt", to, "-T", "-"}
			if mechanism != "" {
				args = append(args, "--ssl-reqd", "--login-options", "AUTH="+mechanism, "--user", "anna:"+Password)
			}
			return args
		},
		stdin: textOnStdin,
	},
	{
		name: "python smtplib", login: []string{"587 auto", "465 auto"},
		command: func(_, _, _, _, _ string) []string { return []string{"/usr/bin/python3", "-"} },
		stdin: func(host, port, from, to string) string {
			return fmt.Sprintf(`import smtplib, ssl
any = ssl._create_unverified_context()
if %[2]q == "465":
    s = smtplib.SMTP_SSL(%[1]q, 465, local_hostname="client.example", context=any)
else:
    s = smtplib.SMTP(%[1]q, %[2]q, local_hostname="client.example")
    if %[2]q == "587":
        s.starttls(context=any)
if %[2]q != "25":
    s.login("anna", %[5]q)
s.sendmail(%[3]q, [%[4]q], %[6]q)
s.quit()
`, host, port, from, to, Password, letter)
		},
	},
	{
		name: "smtp-source",
		command: func(host, port, _, from, to string) []string {
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			return []string{"/usr/sbin/smtp-source", "-M", "client.example", "-f", from, "-t", to, host + ":" + port}
		},
	},
}

// TestRealClients lets programs that people use log in to our relay and send, and come to it as
// strangers: over both families, by every port and mechanism.
func TestRealClients(t *testing.T) {
	Require(t)
	target := Start(t, relayCase(t, "closed"))
	for _, host := range []string{Target4, Target6} {
		for i, c := range clients {
			for j, login := range c.login {
				port, mechanism, _ := strings.Cut(login, " ")
				t.Run(fmt.Sprintf("%s %s to %s", c.name, login, host), func(t *testing.T) {
					to := fmt.Sprintf("to-%d-%d-%d@elsewhere.example", i, j, len(host))
					if out, err := target.send(t, c, host, port, mechanism, "anna@victim.example", to); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
					m := target.queuedFor(t, to)
					listener := map[string]string{"465": "submissions", "587": "submission"}[port]
					grant := m.To[0].Grant
					if m.Identity != "anna" || m.Listener != listener || grant.Reason != "authenticated" || grant.Who != "anna" || !strings.HasPrefix(m.TLS, "TLS 1.3") {
						t.Errorf("queued as %+v", m)
					}
					if want := origin(`"*@victim.example"`); grant.At != want {
						t.Errorf("granted by %s, want %s", grant.At, want)
					}
				})
			}
			t.Run(fmt.Sprintf("%s as a stranger to %s", c.name, host), func(t *testing.T) {
				// The recipient in a domain of ours has a mailbox, so it is taken: the stranger is served.
				from := fmt.Sprintf("in-%d-%d@far.example", i, len(host))
				if out, err := target.send(t, c, host, "25", "", from, "anna@victim.example"); err != nil {
					t.Fatalf("for our own domain: %v\n%s", err, out)
				}
				m := target.queuedFrom(t, from)
				if m.Identity != "" || m.Listener != "mx" || m.To[0].Grant.Reason != "inbound" || m.To[0].Grant.At != origin(`domain "victim`) {
					t.Errorf("queued as %+v", m)
				}
				out, err := target.send(t, c, host, "25", "", from, "ben@elsewhere.example")
				if err == nil || !strings.Contains(out, "550") || !strings.Contains(out, "We do not relay for") {
					t.Errorf("for a foreign domain: %v\n%s", err, out)
				}
			})
		}
	}
	// Nothing but what was looked at: a refused message left no trace.
	want := 0
	for _, c := range clients {
		want += 2 * (len(c.login) + 1)
	}
	if got := len(target.queue(t)); got != want {
		t.Errorf("%d messages in the queue, want %d", got, want)
	}
}

func relayCase(t *testing.T, config string) Case {
	t.Helper()
	i := slices.IndexFunc(posternCases, func(c Case) bool { return c.Config == config })
	if i < 0 {
		t.Fatalf("no case postern/%s", config)
	}
	return posternCases[i]
}

// origin is where a text stands in the relay's configuration, as a grant names it.
func origin(text string) string {
	before, _, _ := strings.Cut(relayHead, text)
	return fmt.Sprintf("/etc/postern/postern.hcl:%d:%d", strings.Count(before, "\n")+1, len(before)-strings.LastIndexByte(before, '\n'))
}

// send runs a client on the tester's side, in the root of its packages, and returns what it said.
func (t *Target) send(tb testing.TB, c client, host, port, mechanism, from, to string) (string, error) {
	tb.Helper()
	cmd := t.debian(tb, c.command(host, port, mechanism, from, to)...)
	if c.stdin != nil {
		cmd.Stdin = strings.NewReader(c.stdin(host, port, from, to))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// debian makes a command of the clients' root, on the tester's side.
func (t *Target) debian(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	root, err := Root(t.ctx, "clients")
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o777); err != nil { // msmtp keeps its message there
		tb.Fatal(err)
	}
	return t.Tester(append([]string{"chroot", root}, args...)...)
}

// state is our relay's state folder, as the machine sees it.
func (t *Target) state() string { return fmt.Sprintf("/proc/%d/root/var/lib/postern", t.target.pid()) }

// queue asks our relay for all that it keeps, through its control socket.
func (t *Target) queue(tb testing.TB) []serve.QueuedMessage {
	tb.Helper()
	return queueOf(tb, t.state())
}

func queueOf(tb testing.TB, state string) []serve.QueuedMessage {
	tb.Helper()
	var all []serve.QueuedMessage
	for query := "/queue?messages=1&max=500"; ; {
		var page serve.QueuePage
		if err := serve.Dial(state).Get(tb.Context(), query, &page); err != nil {
			tb.Fatal(err)
		}
		all = append(all, page.Messages...)
		if page.Next == "" {
			return all
		}
		query = "/queue?messages=1&max=500&after=" + page.Next
	}
}

func (t *Target) queuedFor(tb testing.TB, to string) serve.QueuedMessage {
	tb.Helper()
	return only(tb, t.queue(tb), "for "+to, func(m serve.QueuedMessage) bool { return m.To[0].Grant.To == "<"+to+">" })
}

func (t *Target) queuedFrom(tb testing.TB, from string) serve.QueuedMessage {
	tb.Helper()
	return only(tb, t.queue(tb), "from "+from, func(m serve.QueuedMessage) bool { return m.From == "<"+from+">" })
}

// only returns the one message that matches.
func only(tb testing.TB, list []serve.QueuedMessage, what string, match func(serve.QueuedMessage) bool) serve.QueuedMessage {
	tb.Helper()
	list = slices.DeleteFunc(list, func(m serve.QueuedMessage) bool { return !match(m) })
	if len(list) != 1 {
		tb.Fatalf("%d messages %s in the queue, want 1", len(list), what)
	}
	return list[0]
}
