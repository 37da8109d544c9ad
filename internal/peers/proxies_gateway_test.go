package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/door"
)

// gateways are the ones of the manual. At "elsewhere" the tester stands outside of the network from
// which a password may come.
const gateways = `
gateway "socks" {
  port    = 1080
  login   = true
  private = ["192.0.2.0/24"]
  to      = ["place.relaytest.example:8081"]
}
gateway "connect" {
  port    = 3128
  login   = true
  private = ["192.0.2.0/24"]
  to      = ["place.relaytest.example:8081"]
}
gateway "encrypted" {
  door  = "connect"
  port  = 8443
  login = true
  tls   = true
  to    = ["place.relaytest.example:8081"]
}
gateway "elsewhere" {
  door    = "connect"
  port    = 8080
  login   = true
  private = ["10.1.2.0/24"]
  to      = ["place.relaytest.example:8081"]
}
`

// TestGatewaysAndCurl leads Debian's curl through our own gateways: with its password to the place
// that they name, and to nothing else; and the auditor finds every one of them closed. Debian's curl
// speaks HTTP/1 to a proxy: so a proxy before ours, nghttpx, speaks HTTP/2 to it.
func TestGatewaysAndCurl(t *testing.T) {
	Require(t)
	target := Start(t, Case{Server: "postern", Config: "gateways", setup: relay(gateways, "1080", "3128", "8443", "8080")})
	t.Run("curl", func(t *testing.T) {
		t.Cleanup(released) // the check takes the same ports
		zone(t, target)
		visits := visited(t, target, "8081", "8082")
		nghttpx(t, target)
		const named = "http://place.relaytest.example:8081/"
		for _, c := range []struct {
			name, proxy, user, to string
			reaches               bool
		}{
			{"socks", "socks5h://" + Target4 + ":1080", "anna:" + Password, named, true},
			{"socks over IPv6", "socks5h://[" + Target6 + "]:1080", "anna:" + Password, named, false}, // not a private network there
			{"socks, another's password", "socks5h://" + Target4 + ":1080", "anna:wrong", named, false},
			{"socks, no login", "socks5h://" + Target4 + ":1080", "", named, false},
			{"socks, version 4", "socks4a://" + Target4 + ":1080", "anna:", named, false},
			{"socks, the place by its address", "socks5h://" + Target4 + ":1080", "anna:" + Password, "http://" + Tester4 + ":8081/", false},
			{"socks, another name of it", "socks5h://" + Target4 + ":1080", "anna:" + Password, "http://other.relaytest.example:8081/", false},
			{"socks, another port of it", "socks5h://" + Target4 + ":1080", "anna:" + Password, "http://place.relaytest.example:8082/", false},
			{"socks, its own machine", "socks5h://" + Target4 + ":1080", "anna:" + Password, "http://127.0.0.1:25/", false},
			{"connect", "http://" + Target4 + ":3128", "anna:" + Password, named, true},
			{"connect, another's password", "http://" + Target4 + ":3128", "anna:wrong", named, false},
			{"connect, no login", "http://" + Target4 + ":3128", "", named, false},
			{"connect, another name of it", "http://" + Target4 + ":3128", "anna:" + Password, "http://other.relaytest.example:8081/", false},
			{"connect, another port of it", "http://" + Target4 + ":3128", "anna:" + Password, "http://place.relaytest.example:8082/", false},
			{"connect over TLS", "https://" + Target4 + ":8443", "anna:" + Password, named, true},
			{"connect over TLS, over IPv6", "https://[" + Target6 + "]:8443", "anna:" + Password, named, true},
			{"connect over TLS, no login", "https://" + Target4 + ":8443", "", named, false},
			{"connect over HTTP/2", "http://" + Tester4 + ":3000", "anna:" + Password, named, true},
			{"connect over HTTP/2, another's password", "http://" + Tester4 + ":3000", "anna:wrong", named, false},
			{"connect over HTTP/2, no login", "http://" + Tester4 + ":3000", "", named, false},
			{"connect over HTTP/2, another name of it", "http://" + Tester4 + ":3000", "anna:" + Password, "http://other.relaytest.example:8081/", false},
			{"connect over HTTP/2, its own machine", "http://" + Tester4 + ":3000", "anna:" + Password, "http://127.0.0.1:25/", false},
			{"connect from outside its private network", "http://" + Target4 + ":8080", "anna:" + Password, named, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				args := []string{"/usr/bin/curl", "-sSv", "--max-time", "10", "--proxytunnel", "--proxy-insecure", "--proxy", c.proxy}
				if c.user != "" {
					args = append(args, "--proxy-user", c.user)
				}
				out, err := target.debian(t, append(args, c.to)...).CombinedOutput()
				if got := bytes.Contains(out, []byte("you are "+Target4)); got != c.reaches || got != (err == nil) {
					t.Errorf("reached is %t, want %t: %v\n%s", got, c.reaches, err, out)
				}
				if bytes.Contains(out, []byte("timed out")) {
					t.Errorf("no answer:\n%s", out)
				}
				if got := visits(); got != c.reaches {
					t.Errorf("the place was visited is %t, want %t", got, c.reaches)
				}
			})
		}
	})
	t.Run("check", func(t *testing.T) {
		binary, err := writeProgram(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		got, exit, text := judge(t, target, binary, slices.Concat(ownZone, []string{"--quick", "--try-logins", "--inside"})...)
		if got.Verdict != "closed" || exit != 0 {
			t.Errorf("%s: %s, exit code %d", got.Verdict, got.Why, exit)
		}
		want := map[int]door.Door{25: door.SMTP, 465: door.SMTP, 587: door.SMTP, 1080: door.SOCKS, 3128: door.Connect, 8080: door.Connect, 8443: door.Connect}
		for _, d := range got.Doors {
			if d.Verdict != "closed" || d.Other || d.Door != want[d.Port].String() {
				t.Errorf("port %d: %s at the door %s, open to other ports %t", d.Port, d.Verdict, d.Door, d.Other)
			}
			delete(want, d.Port)
		}
		if len(want) > 0 {
			t.Errorf("not judged: %v", want)
		}
		if t.Failed() {
			t.Log(text)
		}
	})
}

// nghttpx starts Debian's proxy at port 3000 of the tester's: it takes CONNECT over HTTP/1, and asks
// our encrypted gateway for the same over HTTP/2.
func nghttpx(t *testing.T, target *Target) {
	t.Helper()
	root, err := Root(target.ctx, "nghttpx")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := target.Tester("chroot", root, "/usr/sbin/nghttpx", "--conf=/dev/null", "--single-process", "--http2-proxy", "--insecure", "--no-ocsp",
		"--frontend="+Tester4+",3000;no-tls", "--backend="+Target4+",8443;;proto=h2;tls", "--errorlog-file=/proc/self/fd/2", "--accesslog-file=")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); t.Failed() {
			t.Logf("nghttpx: %v\n%s", err, said.Bytes())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := target.await(ctx, Tester4+":3000"); err != nil {
		t.Errorf("nghttpx does not listen: %v", err)
	}
}

// visited serves a page at ports of the tester's, which says who came; the function returned says
// whether somebody did since it was last called.
func visited(t *testing.T, target *Target, ports ...string) func() bool {
	t.Helper()
	came := make(chan struct{}, 16)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.Copy(w, strings.NewReader("you are "+host+"\n"))
	})}
	for _, port := range ports {
		l, err := target.Listen(t.Context(), net.JoinHostPort(Tester4, port))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		t.Cleanup(func() {
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { _ = server.Close() })
	return func() bool {
		select {
		case <-came:
			return true
		default:
			return false
		}
	}
}
