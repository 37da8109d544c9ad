package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/serve"
)

// A process is a relay of its own, started as a service manager does.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	heard func() string
	out   string // a file: what was printed before the manager is told is in it
	dir   string
}

func (p *process) printed() string {
	p.t.Helper()
	text, err := os.ReadFile(p.out)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// start runs `postern serve` on a folder, with sockets where there are any,
// and comes back when it serves.
func start(t *testing.T, dir string, sockets []*os.File, args ...string) *process {
	t.Helper()
	p := launch(t, dir, sockets, args...)
	if got := p.heard(); !strings.HasPrefix(got, "READY=1\nSTATUS=closed; ") {
		t.Fatalf("told first: %q", got)
	}
	return p
}

func launch(t *testing.T, dir string, sockets []*os.File, args ...string) *process {
	t.Helper()
	return launchWith(t, dir, sockets, func(*process) {}, args...)
}

// launchWith changes the process before it is started.
func launchWith(t *testing.T, dir string, sockets []*os.File, change func(*process), args ...string) *process {
	t.Helper()
	p := &process{t: t, dir: dir}
	notify, heard := listenAsManager(t)
	p.heard = heard
	all := append([]string{"-c", `LISTEN_PID=$$ exec postern serve --config "$0" --state "$@"`, filepath.Join(dir, "postern.hcl"), filepath.Join(dir, "state")}, args...)
	p.cmd = exec.Command("/bin/sh", all...)
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify, "WATCHDOG_USEC=1000000")
	if len(sockets) > 0 {
		p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(sockets)), "LISTEN_FDNAMES=mx")
	}
	p.out = filepath.Join(t.TempDir(), "printed")
	out, err := os.Create(p.out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	p.cmd.ExtraFiles, p.cmd.Stdout, p.cmd.Stderr = sockets, out, out
	change(p)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("it printed\n%s", p.printed())
		}
	})
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// hears waits until the manager is told something.
func (p *process) hears(want string) string {
	p.t.Helper()
	for {
		if got := p.heard(); strings.HasPrefix(got, want) {
			return got
		}
	}
}

// ends waits for the end and returns the exit code.
func (p *process) ends() int {
	p.t.Helper()
	_ = p.cmd.Wait() // the code says it
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) status() serve.Status {
	p.t.Helper()
	var s serve.Status
	if err := serve.Dial(filepath.Join(p.dir, "state")).Get(p.t.Context(), "/status", &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *process) waiting() int {
	p.t.Helper()
	var page serve.QueuePage
	if err := serve.Dial(filepath.Join(p.dir, "state")).Get(p.t.Context(), "/queue?messages=1", &page); err != nil {
		p.t.Fatal(err)
	}
	return len(page.Messages)
}

func (p *process) dial() *conversation {
	p.t.Helper()
	return dialTo(p.t, p.status().Listeners[0].Addrs[0])
}

// A conversation is a client of the tests.
type conversation struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialTo(t *testing.T, address string) *conversation {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &conversation{t, conn, bufio.NewReader(conn)}
}

func (c *conversation) say(line, want string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	c.hears(want)
}

func (c *conversation) hears(want string) {
	c.t.Helper()
	for {
		line, err := c.in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			c.t.Fatalf("%q, %v; want %s", line, err, want)
		}
		if line[3] == ' ' {
			return
		}
	}
}

// toData begins a message, and leaves it to be ended.
func (c *conversation) toData() {
	c.t.Helper()
	for _, step := range [][2]string{
		{"EHLO client.example", "250"}, {"MAIL FROM:<a@far.example>", "250"}, {"RCPT TO:<anna@example.org>", "250"}, {"DATA", "354"},
	} {
		c.say(step[0], step[1])
	}
}

func (c *conversation) sends() {
	c.t.Helper()
	c.toData()
	c.say("Subject: hello\r\n\r\ntext\r\n.", "250")
}

const runningConfig = `hostname = "mx.example.org"
listener "mx" {
  port      = 0
  addresses = ["127.0.0.1"]
}
domain "example.org" {
  recipients = ["anna"]
  deliver    = "hold"
}
`

func configured(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "postern.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// listening is a socket that a manager holds, and where it is.
func listening(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file, l.Addr().String()
}

// One relay is replaced by the next, and no client is turned away: what is
// under way comes to its end, and who connects in between waits for the next.
func TestRestartUnderSocketActivation(t *testing.T) {
	dir := configured(t, runningConfig)
	socket, address := listening(t)
	first := start(t, dir, []*os.File{socket})
	if got := first.status().Listeners[0].Addrs; len(got) != 1 || got[0] != address {
		t.Fatalf("it listens on %v, and was passed %s", got, address)
	}
	idle, busy := dialTo(t, address), dialTo(t, address)
	idle.hears("220")
	busy.hears("220")
	busy.toData()
	first.signal(syscall.SIGHUP)
	first.hears("RELOADING=1\nMONOTONIC_USEC=")
	first.hears("READY=1\n")
	idle = dialTo(t, address)
	idle.hears("220")
	first.signal(syscall.SIGTERM)
	first.hears("STOPPING=1\n")
	idle.hears("421")
	busy.say("Subject: to its end\r\n\r\ntext\r\n.", "250")
	if code := first.ends(); code != 0 {
		t.Fatalf("the first ended with %d", code)
	}
	between := dialTo(t, address) // nobody runs
	second := start(t, dir, []*os.File{socket})
	between.hears("220")
	between.sends()
	if n := second.waiting(); n != 2 {
		t.Errorf("%d messages, want both", n)
	}
	second.signal(syscall.SIGTERM)
	if code := second.ends(); code != 0 {
		t.Errorf("the second ended with %d", code)
	}
}

// A second signal does not wait for anybody, and loses nothing.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	dir := configured(t, runningConfig)
	p := start(t, dir, nil)
	c := p.dial()
	c.hears("220")
	c.sends()
	slow := p.dial()
	slow.hears("220")
	slow.toData()
	p.signal(syscall.SIGTERM)
	p.hears("STOPPING=1\n")
	p.signal(syscall.SIGTERM)
	if code := p.ends(); code != 128+int(syscall.SIGTERM) || !strings.Contains(p.printed(), "ended at once by a second signal") {
		t.Errorf("ended with %d", code)
	}
	again := start(t, dir, nil)
	if n := again.waiting(); n != 1 {
		t.Errorf("%d messages after it, want the one that was answered 250 to", n)
	}
}

// A passed socket that nobody serves would let its clients wait for ever.
func TestPassedSocketOfNoListener(t *testing.T) {
	dir := configured(t, strings.Replace(runningConfig, `"mx" {`, `"in" {`+"\n  role = \"mx\"", 1))
	socket, address := listening(t)
	p := launch(t, dir, []*os.File{socket})
	if code := p.ends(); code != exitConfig || !strings.Contains(p.printed(), "systemd passes the socket "+address+` ("mx"), and no listener has that address or name`) {
		t.Errorf("ended with %d", code)
	}
}

func TestReloadWithinTheSandbox(t *testing.T) {
	dir := configured(t, runningConfig)
	p := start(t, dir, nil)
	fed := make(chan struct{})
	go func() { // the manager reads on, as systemd does
		defer close(fed)
		for told, after := "", 0; after < 2; told = p.heard() {
			if told == "WATCHDOG=1\n" {
				after++
			}
		}
	}()
	if !strings.Contains(p.printed(), "landlock v") {
		t.Skipf("this kernel has no Landlock:\n%s", p.printed())
	}
	postern := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "postern", append(args, "--config", filepath.Join(dir, "postern.hcl"), "--state", filepath.Join(dir, "state"))...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := postern("user", "add", "anna", "--may-send-as", "anna@example.org", "--generate"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	change := func(text string) {
		t.Helper()
		fresh := filepath.Join(dir, "fresh")
		if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(fresh, filepath.Join(dir, "postern.hcl")); err != nil {
			t.Fatal(err)
		}
	}
	change(runningConfig + "# replaced by renaming\n")
	if out, err := postern("reload"); err != nil {
		t.Errorf("a reload of what is within: %v\n%s", err, out)
	}
	elsewhere := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(elsewhere, []byte("anna\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"a port", strings.Replace(runningConfig, "port      = 0", "port      = 2", 1), "listen on TCP port 2"},
		{"a next hop", strings.Replace(runningConfig, `"hold"`, `"lmtp:127.0.0.1:2424"`, 1), "connect to TCP port 2424"},
		{"a folder", strings.Replace(runningConfig, `"hold"`, `"maildir:/srv/mail"`, 1), "write /srv/mail"},
		{"folders of users", strings.Replace(runningConfig, `"hold"`, `"maildir:/srv/mail/{domain}/{local}"`, 1), "write /srv/mail"},
	} {
		change(c.text)
		out, err := postern("reload")
		if err == nil || !strings.Contains(out, c.want) || !strings.Contains(out, "restart for this") || !strings.Contains(out, "the running policy stays in force") {
			t.Errorf("%s: %v\n%s\nwant %q", c.name, err, out, c.want)
		}
	}
	<-fed         // it reaches its own control socket
	c := p.dial() // all of that changed nothing
	c.hears("220")
	c.sends()
}

func TestGoesOnAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skipf("this machine has nobody: %v", err)
	}
	dir := configured(t, runningConfig)
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, dir, nil, "--user", "nobody")
	if !strings.Contains(p.printed(), "; user nobody\n") {
		t.Error("the start does not say who it is")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Uid:\t" + strings.Repeat("\t"+nobody.Uid, 4)[1:], "Gid:\t" + strings.Repeat("\t"+nobody.Gid, 4)[1:],
		"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1",
	} {
		if !bytes.Contains(status, []byte(line+"\n")) {
			t.Errorf("no %q in\n%s", line, status)
		}
	}
	c := p.dial()
	c.hears("220")
	c.sends()
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(dir, "state"), func(path string, d os.DirEntry, err error) error {
		if d == nil {
			return err
		}
		if info, err := d.Info(); err == nil { // else it was compacted away since
			if s, ok := info.Sys().(*syscall.Stat_t); ok && (int(s.Uid) != uid || info.Mode().Perm()&0o077 != 0 && !info.IsDir()) {
				t.Errorf("%s is %v of %d", path, info.Mode(), s.Uid)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	if code := p.ends(); code != 0 {
		t.Errorf("ended with %d", code)
	}

	for _, c := range []struct {
		name, as, want string
		prepare        func()
	}{
		{"a state of root's", "nobody", "belongs to the user of id 0, and not to nobody; give it over: chown -R nobody: ", func() {
			if err := os.Chown(filepath.Join(dir, "state"), 0, 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"a user that is not there", "postern-that-nobody-made", "make it: useradd --system", func() {}},
	} {
		c.prepare()
		p := launch(t, dir, nil, "--user", c.as)
		if code := p.ends(); code == 0 || !strings.Contains(p.printed(), c.want) {
			t.Errorf("%s: ended with %d, want %q", c.name, code, c.want)
		}
	}
}

func TestCatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out []string
	read, write := io.Pipe()
	ended := make(chan error, 1)
	keep := filepath.Join(t.TempDir(), "mail")
	go func() {
		err := runCatch(ctx, write, catchFlags{listen: []string{"127.0.0.1:0"}, page: "127.0.0.1:0", keep: keep})
		_ = write.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(read)
	until := func(prefix string) string {
		t.Helper()
		for lines.Scan() {
			out = append(out, lines.Text())
			if strings.HasPrefix(lines.Text(), prefix) {
				return lines.Text()
			}
		}
		t.Fatalf("no %q in\n%s", prefix, strings.Join(out, "\n"))
		return ""
	}
	address := strings.Fields(until("  smtp  "))[1]
	until("try   curl")
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c := dialTo(t, address)
		c.hears("220")
		c.toData()
		c.say("Subject: \x1b[2Jhello \"you\"\r\n\r\ntext\r\n.", "250")
	}()
	until("") // the empty line after the hint
	got := until("")
	if !strings.Contains(got, `  1  a@far.example -> anna@example.org  168 B  ·[2Jhello "you"`) || strings.Contains(got, "\x1b") {
		t.Errorf("the line: %q", got)
	}
	<-sent
	cancel()
	for lines.Scan() {
		t.Errorf("one more: %q", lines.Text())
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if names, err := filepath.Glob(keep + "/00000001.*"); err != nil || len(names) != 2 {
		t.Errorf("kept: %v, %v", names, err)
	}
}

// Mail leaves through the walls: into folders, to a unix socket, to a port
// that the configuration names.
func TestDeliversWithinTheSandbox(t *testing.T) {
	mail := t.TempDir()
	local, err := net.Listen("unix", filepath.Join(t.TempDir(), "lmtp"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	remote, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = remote.Close() })
	text := "hostname = \"mx.example.org\"\nlistener \"mx\" {\n  port = 0\n  addresses = [\"127.0.0.1\"]\n}\n"
	for name, deliver := range map[string]string{
		"folder.example": "maildir:" + mail + "/{domain}/{local}", "local.example": "lmtp:unix:" + local.Addr().String(), "remote.example": "lmtp:" + remote.Addr().String(),
	} {
		text += fmt.Sprintf("domain %q {\n  recipients = [\"anna\"]\n  deliver = %q\n}\n", name, deliver)
	}
	p := start(t, configured(t, text), nil)
	c := p.dial()
	c.hears("220")
	c.say("EHLO client.example", "250")
	c.say("MAIL FROM:<a@far.example>", "250")
	for _, name := range []string{"folder.example", "local.example", "remote.example"} {
		c.say("RCPT TO:<anna@"+name+">", "250")
	}
	c.say("DATA", "354")
	c.say("Subject: out\r\n\r\ntext\r\n.", "250")
	for _, l := range []net.Listener{local, remote} {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if found, _ := filepath.Glob(mail + "/folder.example/anna/new/*"); len(found) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing came into the folder")
		}
	}
}
