package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern/mail"
	"postern/serve"
	"postern/smtp"
)

// The scripts of testdata/script are the manual, run: every command that the
// README and docs/doors show stands in one of them.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"postern": main,
	})
}

// exits runs a program that must end with a code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[0])
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT...")
	}
	var e *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); !errors.As(err, &e) || e.ExitCode() != code {
		ts.Fatalf("%v, want exit status %d", err, code)
	}
}

// awaitRelay waits until the relay that holds a state folder answers.
func awaitRelay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: awaitrelay STATE")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := serve.Dial(ts.MkAbs(args[0])).Get(context.Background(), "/status", &serve.Status{})
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no relay on %s: %v", args[0], err)
		}
	}
}

// knock connects to a listener or gateway of the relay that holds a state folder.
func knock(ts *testscript.TestScript, folder, listener string) net.Conn {
	var s serve.Status
	ts.Check(serve.Dial(ts.MkAbs(folder)).Get(context.Background(), "/status", &s))
	at := slices.IndexFunc(s.Listeners, func(l serve.ListenerStatus) bool { return l.Name == listener })
	if at < 0 {
		ts.Fatalf("no listener %s in %+v", listener, s.Listeners)
	}
	conn, err := net.Dial("tcp", s.Listeners[at].Addrs[0])
	ts.Check(err)
	return conn
}

// send hands a relay one message: send STATE LISTENER FROM TO HEADER... A header
// "EHLO name" is the client's name.
func send(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 4 {
		ts.Fatalf("usage: send STATE LISTENER FROM TO HEADER...")
	}
	conn := knock(ts, args[0], args[1])
	defer conn.Close()
	c, err := smtp.NewClient(context.Background(), conn, smtp.ClientOptions{})
	ts.Check(err)
	name := "client.example"
	args = slices.DeleteFunc(args, func(s string) bool {
		given, ok := strings.CutPrefix(s, "EHLO ")
		if ok {
			name = given
		}
		return ok
	})
	ts.Check(c.Hello(context.Background(), name))
	from, err := mail.ParseReversePath(args[2])
	ts.Check(err)
	to, err := mail.ParseForwardPath(args[3])
	ts.Check(err)
	text := strings.Join(append(args[4:], "", "text", ""), "\r\n")
	_, reply, err := c.Send(context.Background(), mail.Envelope{From: from, To: []mail.Recipient{{Path: to}}}, strings.NewReader(text))
	ts.Check(err)
	if reply.Positive() == neg {
		ts.Fatalf("%s to %s: %s", from, to, reply)
	}
	ts.Check(c.Quit(context.Background()))
}

// awaitHeld waits until so many messages are held: of an identity that has
// broken out, or of anybody, which is "-".
func awaitHeld(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: awaitheld STATE IDENTITY|- N")
	}
	want, err := strconv.Atoi(args[2])
	ts.Check(err)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		if control := serve.Dial(ts.MkAbs(args[0])); args[1] == "-" {
			var b serve.Batch
			ts.Check(control.Post(context.Background(), "/queue/count?state=held", &b))
			n = b.Messages
		} else {
			var list []serve.HeldBatch
			ts.Check(control.Get(context.Background(), "/breakouts?who="+args[1], &list))
			for _, b := range list {
				n += b.Messages
			}
		}
		if n == want {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%d are held, want %d", n, want)
		}
	}
}

// awaitPort waits until somebody listens.
func awaitPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: awaitport ADDR:PORT")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", args[0])
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("nobody listens at %s: %v", args[0], err)
		}
	}
}

// meeting reports whether the ports are free at which lab and check meet.
func meeting() bool {
	at := []string{labCollector, labZone, "127.0.0.1:" + strconv.Itoa(labPort)}
	for _, port := range labPorts {
		at = append(at, "127.0.0.1:"+strconv.Itoa(int(port)))
	}
	for _, a := range at {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"awaitrelay": awaitRelay, "awaitheld": awaitHeld, "exits": exits, "awaitport": awaitPort, "send": send, "greeter": greeter, "tunnel": tunnel, "awaittunnels": awaitTunnels},
		Condition: func(name string) (bool, error) {
			if name == "meeting" {
				return meeting(), nil
			}
			return false, fmt.Errorf("condition %q: unknown", name)
		},
	})
}
