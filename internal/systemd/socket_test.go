package systemd

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Descriptors are passed to a process, so the test's program is started again
// and prints what it found.
const childVariable = "POSTERN_SYSTEMD_TEST"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		os.Exit(m.Run())
	case "ours":
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // fails for a bad name only
	case "a parent's":
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getppid()))
	}
	list, err := Sockets()
	if err != nil {
		fmt.Println("error:", err)
	}
	for _, s := range list {
		fmt.Println(s.Name, s.Addr(), s.Both)
		file, err := s.Listener.File() // it works as a socket
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		file.Close()
	}
	for fd := firstPassed; len(list) > 0 && fd < firstPassed+2; fd++ {
		if flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			fmt.Printf("a child would have descriptor %d\n", fd)
		}
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			fmt.Println("still set:", v)
		}
	}
}

// child starts this program with descriptors, and returns what it says.
func child(t *testing.T, whose, fds, names string, files ...*os.File) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), childVariable+"="+whose, "LISTEN_FDS="+fds, "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// listening returns a socket as the manager has it, and where it is.
func listening(t *testing.T, network, address string) (*os.File, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	filer, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		t.Fatalf("%T has no file", l)
	}
	file, err := filer.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	a, _ := netip.ParseAddrPort(l.Addr().String())
	return file, a
}

func TestSockets(t *testing.T) {
	four, at4 := listening(t, "tcp4", "127.0.0.1:0")
	six, at6 := listening(t, "tcp6", "[::1]:0")
	both, atBoth := listening(t, "tcp", "[::]:0")
	only, atOnly := listening(t, "tcp6", "[::]:0")
	unix, _ := listening(t, "unix", t.TempDir()+"/s")
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	datagrams, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	const notListening = ": it is no TCP socket that listens; write ListenStream=PORT and Accept=no in the unit"
	for _, c := range []struct {
		name, whose, fds, names string
		files                   []*os.File
		want                    string
	}{
		{"two", "ours", "2", "mx:submission", []*os.File{four, six}, fmt.Sprintf("mx %s false\nsubmission %s false", at4, at6)},
		{"of both families", "ours", "1", "postern.socket", []*os.File{both}, fmt.Sprintf("postern.socket %s true", atBoth)},
		{"of IPv6 alone", "ours", "1", "postern.socket", []*os.File{only}, fmt.Sprintf("postern.socket %s false", atOnly)},
		{"without names", "ours", "1", "", []*os.File{four}, fmt.Sprintf("descriptor 3 %s false", at4)},
		{"fewer names", "ours", "2", "mx", []*os.File{four, six}, fmt.Sprintf("mx %s false\ndescriptor 4 %s false", at4, at6)},
		{"meant for the parent", "a parent's", "1", "mx", []*os.File{four}, ""},
		{"none", "ours", "0", "", nil, ""},
		{"no number", "ours", "many", "", nil, `error: LISTEN_FDS="many" is no number of sockets; start this from a socket unit, or unset it`},
		{"less than none", "ours", "-1", "", nil, `error: LISTEN_FDS="-1" is no number of sockets; start this from a socket unit, or unset it`},
		{"a unix socket", "ours", "2", "mx:lmtp", []*os.File{four, unix}, `error: passed socket "lmtp"` + notListening},
		{"datagrams", "ours", "1", "dns", []*os.File{datagrams}, `error: passed socket "dns"` + notListening},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := child(t, c.whose, c.fds, c.names, c.files...); got != c.want {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}
	if got := child(t, "ours", "1", "file", plain); !strings.HasPrefix(got, `error: passed socket "file": descriptor 3: it is no TCP socket that listens`) {
		t.Errorf("a file: %q", got)
	}
}
