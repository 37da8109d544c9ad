package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// What cannot be undone is done in a process of its own: the test's program
// is started again, and does what roomVariable names.
const roomVariable = "POSTERN_SANDBOX_TEST"

func TestMain(m *testing.M) {
	if room := os.Getenv(roomVariable); room != "" {
		word, rest, _ := strings.Cut(room, " ")
		map[string]func(string){"enter": inside, "drop": dropped, "become": became}[word](rest)
		return
	}
	os.Exit(m.Run())
}

// again runs this program with a task and returns what it printed, by name.
func again(t *testing.T, task string) map[string]string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), roomVariable+"="+task, "GODEBUG=multipathtcp=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, what, _ := strings.Cut(strings.TrimSpace(line), "=")
		found[name] = what
	}
	return found
}

// tell prints how a deed went.
func tell(name string, err error) {
	switch {
	case err == nil:
		fmt.Println(name + "=done")
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		fmt.Println(name + "=denied")
	case errors.Is(err, syscall.ECONNREFUSED):
		fmt.Println(name + "=nobody there")
	default:
		fmt.Println(name+"=", err)
	}
}

// inside enters the sandbox of a folder and tries what may be done there, and
// what may not.
func inside(task string) {
	words := strings.Fields(task) // folder, an allowed port with a listener, another one, a port to bind
	dir := words[0]
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	port := func(i int) uint16 { n, _ := strconv.ParseUint(words[i], 10, 16); return uint16(n) }
	held, _ := os.Open(in("outside", "held"))
	walls, err := Enter(Profile{
		Read: []string{in("read"), in("single"), in("nowhere")}, Write: []string{in("write")}, Sockets: []string{in("sockets")},
		Bind: []uint16{port(3)}, Connect: []uint16{port(1)},
	})
	if err != nil {
		fmt.Println("enter=", err)
		return
	}
	fmt.Println("walls=" + walls.String())
	fmt.Println("missing=" + strings.Join(walls.Missing, " "))
	open := func(path string, flags int) error {
		f, err := os.OpenFile(path, flags, 0o600)
		if err == nil {
			err = f.Close()
		}
		return err
	}
	dial := func(network, address string) error {
		c, err := net.Dial(network, address)
		if err == nil {
			err = c.Close()
		}
		return err
	}
	listen := func(p uint16) error {
		l, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p).String())
		if err == nil {
			err = l.Close()
		}
		return err
	}
	_, err = held.Read(make([]byte, 1))
	tell("read what was opened before", err)
	tell("read a file of a folder", open(in("read", "a"), os.O_RDONLY))
	tell("write there", open(in("read", "a"), os.O_WRONLY))
	tell("make one there", open(in("read", "b"), os.O_WRONLY|os.O_CREATE))
	tell("read a single file", open(in("single"), os.O_RDONLY))
	tell("read what was renamed into a folder since", renamedInto(in("write"), open))
	tell("write in the state", os.WriteFile(in("write", "sub", "c"), []byte("x"), 0o600))
	tell("move between folders of it", os.Rename(in("write", "sub", "c"), in("write", "c")))
	tell("read outside", open(in("outside", "held"), os.O_RDONLY))
	tell("write outside", os.WriteFile(in("outside", "new"), nil, 0o600))
	tell("move out", os.Rename(in("write", "c"), in("outside", "c")))
	tell("run a program", exec.Command("/bin/true").Run())
	tell("run our own", syscall.Exec("/proc/self/exe", []string{"x"}, nil))
	tell("connect to a port of the profile", dial("tcp", "127.0.0.1:"+words[1]))
	tell("connect to another", dial("tcp", "127.0.0.1:"+words[2]))
	tell("connect to another by sending", fastOpen(port(2)))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	tell("make a raw socket", err)
	tell("let others read", os.Chmod(in("write"), 0o755))
	tell("give away", os.Chown(in("write"), 1234, 1234))
	tell("hang a word on it", unix.Setxattr(in("write"), "user.x", []byte("y"), 0))
	tell("connect to a unix socket", dial("unix", in("sockets", "s")))
	tell("listen on a port of the profile", listen(port(3)))
	tell("listen on another", listen(0))
	tell("look into another process", unix.PtraceAttach(1))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	tell("make an MPTCP socket", err)
	_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	tell("make a packet socket", err)
	// Threads that were there before are inside as well.
	all := make(chan error)
	for range 20 {
		go func() { all <- open(in("outside", "held"), os.O_RDONLY) }()
	}
	for range 20 {
		err = errors.Join(err, <-all)
	}
	tell("read outside from every thread", err)
}

// fastOpen connects without connect(2).
func fastOpen(port uint16) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
}

// renamedInto is what a renewal of a certificate does.
func renamedInto(dir string, open func(string, int) error) error {
	if err := os.WriteFile(filepath.Join(dir, ".new"), []byte("x"), 0o600); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "cert.pem")); err != nil {
		return err
	}
	return open(filepath.Join(dir, "cert.pem"), os.O_RDONLY)
}

func TestEnter(t *testing.T) {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < landlockPorts {
		t.Skipf("this kernel has Landlock version %d (%v); the test needs %d", abi, err, landlockPorts)
	}
	dir := t.TempDir()
	for _, d := range []string{"read", "write", "write/sub", "outside", "sockets"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"read/a", "single", "outside/held"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listen := func(network, address string) net.Listener {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	listen("unix", filepath.Join(dir, "sockets", "s"))
	port := func(l net.Listener) string {
		_, p, _ := net.SplitHostPort(l.Addr().String())
		return p
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"enter", dir, port(listen("tcp", "127.0.0.1:0")), port(listen("tcp", "127.0.0.1:0")), port(free)}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	got := again(t, strings.Join(words, " "))
	want := map[string]string{
		"walls":                       Walls{Landlock: min(abi, landlockMost), Seccomp: true}.String(),
		"missing":                     filepath.Join(dir, "nowhere"),
		"read what was opened before": "done", "read a file of a folder": "done", "write there": "denied", "make one there": "denied",
		"read a single file": "done", "read what was renamed into a folder since": "done", "write in the state": "done", "move between folders of it": "done",
		"read outside": "denied", "write outside": "denied", "run a program": "denied", "run our own": "denied",
		"connect to a port of the profile": "done", "connect to another": "denied", "connect to another by sending": "denied", "make a raw socket": "denied",
		"let others read": "denied", "give away": "denied", "hang a word on it": "denied", "connect to a unix socket": "done",
		"listen on a port of the profile": "done", "listen on another": "denied", "look into another process": "denied",
		"make an MPTCP socket": "denied", "make a packet socket": "denied", "read outside from every thread": "denied",
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %q, want %q", name, got[name], w)
		}
	}
	// The kernel says "another file system" where a move would take rights along.
	if m := got["move out"]; m == "done" || m == "" {
		t.Errorf("move out: %q", m)
	}
}

func TestDrop(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	const name = "nobody"
	u, err := FindUser(name)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "postern-drop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	if err := u.Own(state); err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(dir, "roots")
	if err := os.WriteFile(roots, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := again(t, "drop "+name+" "+dir)
	for name, w := range map[string]string{
		"drop": "done", "ids": fmt.Sprintf("%d %d %v", u.uid, u.gid, u.groups), "capabilities": "0000000000000000",
		"write in the state": "done", "read what is root's": "denied", "become root again": "denied", "give away a file": "denied",
	} {
		if got[name] != w {
			t.Errorf("%s: %q, want %q", name, got[name], w)
		}
	}
	info, err := os.Stat(filepath.Join(state, "file"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("what it wrote: %v, %v; want it for itself alone", info, err)
	}
	if err := u.Own(state); err != nil {
		t.Errorf("the folder is its own, with all in it: %v", err)
	}
	if err := os.WriteFile(filepath.Join(state, "by-root"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := u.Own(state); err == nil || !strings.Contains(err.Error(), "by-root belongs to the user of id 0, and not to nobody; give it over: chown -R nobody: ") {
		t.Errorf("a file of root's in it: %v", err)
	}
	if err := u.Own(dir); err == nil {
		t.Error("a folder of root's is not the user's")
	}
}

func dropped(task string) {
	name, dir, _ := strings.Cut(task, " ")
	u, err := FindUser(name)
	if err == nil {
		err = u.Drop()
	}
	tell("drop", err)
	groups, _ := syscall.Getgroups()
	fmt.Println("ids=" + fmt.Sprintf("%d %d %v", os.Geteuid(), os.Getegid(), groups))
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapPrm:"); ok {
			fmt.Println("capabilities=" + strings.TrimSpace(value))
		}
	}
	tell("write in the state", os.WriteFile(filepath.Join(dir, "state", "file"), []byte("x"), 0o644))
	_, err = os.ReadFile(filepath.Join(dir, "roots"))
	tell("read what is root's", err)
	tell("become root again", syscall.Setuid(0))
	tell("give away a file", os.Chown(filepath.Join(dir, "state", "file"), 0, 0))
}

func TestFindUser(t *testing.T) {
	_, err := FindUser("postern-that-nobody-made")
	var none *NoUserError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "useradd --system") {
		t.Errorf("an unknown user: %v", err)
	}
	root, err := FindUser("root")
	if err != nil || !root.Root() {
		t.Errorf("root: %+v, %v", root, err)
	}
}
