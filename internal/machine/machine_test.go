package machine

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// text of a host with docker: eth0 at a public network, docker0 a bridge.
const (
	hostRoute = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	017100CB	0003	0	0	0	00000000	0	0	0
eth0	007100CB	00000000	0001	0	0	0	00FFFFFF	0	0	0
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
down0	00000000	0101A8C0	0002	0	0	0	00000000	0	0	0
`
	hostRoute6 = `00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
20010db8000000000000000000000000 20 00000000000000000000000000000000 00 20010db8000000000000000000000007 00000400 00000002 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
`
	hostTrie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 203.0.113.0
        /24 link UNICAST
     |-- 203.0.113.10
        /32 host LOCAL
     |-- 203.0.113.255
        /32 link BROADCAST
     |-- 172.17.0.1
        /32 host LOCAL
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 203.0.113.10
        /32 host LOCAL
`
	hostInet6 = `00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000010 02 40 00 80     eth0
`
	hostTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0A7100CB:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1679 1 0 100 0 0 10 0
   1: 0A7100CB:950A 507100CB:01BB 01 00000000:00000000 03:0000175A 00000000     0        0 1700 3 0
`
	hostTCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:024B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1680 1 0 100 0 0 10 0
   1: B80D0120000000000000000010000000:01D1 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1681 1 0 100 0 0 10 0
`
)

func host() fstest.MapFS {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"proc/net/route":      file(hostRoute),
		"proc/net/ipv6_route": file(hostRoute6),
		"proc/net/fib_trie":   file(hostTrie),
		"proc/net/if_inet6":   file(hostInet6),
		"proc/net/tcp":        file(hostTCP),
		"proc/net/tcp6":       file(hostTCP6),
		"proc/812/comm":       file("master\n"),
		"proc/812/fd/3":       {Data: []byte("socket:[1679]"), Mode: fs.ModeSymlink},
		"proc/812/fd/4":       {Data: []byte("/dev/null"), Mode: fs.ModeSymlink},
		"proc/977/comm":       file("docker-proxy\n"),
		"proc/977/fd/7":       {Data: []byte("socket:[1680]"), Mode: fs.ModeSymlink},
		"proc/self/status":    file("Name:\tx\nCapEff:\t0000000000000400\n"),
		"proc/sys/net/ipv4/ip_unprivileged_port_start": file("80\n"),
		"sys/class/net/docker0/bridge/bridge_id":       file("8000\n"),
		"sys/class/net/eth0/address":                   file("00:00\n"),
		"etc/resolv.conf":                              file("# made\nnameserver 127.0.0.53\noptions edns0\nnameserver nonsense\n"),
		"run/systemd/resolve/resolv.conf":              file("nameserver 8.8.8.8\nnameserver 2001:4860:4860::8888\n"),
	}
}

var same = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestReadAHostWithDocker(t *testing.T) {
	f, err := Read(host())
	if err != nil {
		t.Fatal(err)
	}
	want := Facts{
		Gateways: addrs("203.0.113.1", "fe80::1"),
		Own: []Interface{
			{"eth0", netip.MustParsePrefix("203.0.113.10/24"), false},
			{"docker0", netip.MustParsePrefix("172.17.0.1/16"), true},
			{"lo", netip.MustParsePrefix("127.0.0.1/8"), false},
			{"lo", netip.MustParsePrefix("::1/128"), false},
			{"eth0", netip.MustParsePrefix("2001:db8::10/64"), false},
		},
		Forwarders: []string{"docker-proxy"},
		Resolvers:  addrs("127.0.0.53", "8.8.8.8", "2001:4860:4860::8888"),
		Ports:      Ports{First: 80, Capability: true},
	}
	if d := cmp.Diff(want, f, same, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
	if d := cmp.Diff(addrs("172.17.0.1"), f.Bridges(), same); d != "" {
		t.Errorf("bridges (-want +got):\n%s", d)
	}
	if d := cmp.Diff(addrs("172.17.0.1", "203.0.113.1", "203.0.113.10", "2001:db8::10", "fe80::1"), f.Roads(), same); d != "" {
		t.Errorf("roads (-want +got):\n%s", d)
	}
}

func TestReadSaysThatItCannotSeeTheRoutes(t *testing.T) {
	root := host()
	delete(root, "proc/net/route")
	if f, err := Read(root); err == nil {
		t.Errorf("read %+v without routes, want an error: a missing gateway would be trusted", f)
	}
}

// The kernel is asked by another way than the files that Read reads.
func TestHereKnowsTheAddressesOfTheKernel(t *testing.T) {
	f, err := Here()
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	own := map[netip.Addr]bool{}
	for _, i := range f.Own {
		own[i.Prefix.Addr()] = true
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err != nil || !own[p.Addr()] {
			t.Errorf("own addresses %v lack %s", f.Own, a)
		}
	}
	kernel, err := fromKernel()
	if err != nil || len(kernel) != len(addresses) {
		t.Errorf("fromKernel = %v, %v; want %d addresses", kernel, err, len(addresses))
	}
}

func TestContainerIsToldByItsMarks(t *testing.T) {
	const pod = "0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-77aa.scope\n"
	for _, c := range []struct {
		name, file, text, want string
	}{
		{"no mark", "proc/self/cgroup", "0::/user.slice/user-0.slice\n", ""},
		{"the engine's own service", "proc/self/cgroup", "0::/system.slice/docker.service\n", ""},
		{"docker's file", ".dockerenv", "", "docker"},
		{"docker, cgroup 1", "proc/self/cgroup", "12:pids:/docker/77aa\n0::/\n", "docker"},
		{"docker, cgroup 2", "proc/self/cgroup", "0::/system.slice/docker-77aa.scope\n", "docker"},
		{"podman's file", "run/.containerenv", "", "podman"},
		{"podman's cgroup", "proc/self/cgroup", "0::/machine.slice/libpod-77aa.scope\n", "podman"},
		{"a pod by its cgroup", "proc/self/cgroup", pod, "kubernetes"},
		{"a pod by its environment", "proc/self/environ", "A=1\x00KUBERNETES_SERVICE_HOST=10.0.0.1\x00", "kubernetes"},
		{"lxc", "proc/self/cgroup", "0::/lxc.payload.web/init.scope\n", "lxc"},
		{"systemd-nspawn", "proc/1/environ", "container=systemd-nspawn\x00", "systemd-nspawn"},
		{"a name that would move the cursor", "proc/1/environ", "container=\x1b[2J\x00", "?[2J"},
	} {
		if got := container(fstest.MapFS{c.file: {Data: []byte(c.text)}}); got != c.want {
			t.Errorf("%s: %s %q: got %q, want %q", c.name, c.file, c.text, got, c.want)
		}
	}
}

func TestPortsMay(t *testing.T) {
	for _, c := range []struct {
		ports Ports
		port  uint16
		want  bool
	}{
		{Ports{First: 1024}, 25, false},
		{Ports{First: 1024}, 2525, true},
		{Ports{First: 25}, 25, true},
		{Ports{First: 1024, Capability: true}, 25, true},
	} {
		if got := c.ports.May(c.port); got != c.want {
			t.Errorf("%+v.May(%d) = %v, want %v", c.ports, c.port, got, c.want)
		}
	}
	if got := ports(fstest.MapFS{}); got != (Ports{First: 1024}) {
		t.Errorf("ports of a machine that shows nothing = %+v, want the kernel's default and no capability", got)
	}
}

func TestDisk(t *testing.T) {
	folder := t.TempDir()
	at, err := Disk(folder)
	if err != nil || at.Total == 0 || at.Free > at.Total {
		t.Fatalf("Disk(%s) = %+v, %v", folder, at, err)
	}
	below, err := Disk(folder + "/not/yet/there")
	if err != nil || below.Total != at.Total {
		t.Errorf("Disk of a path that is not there yet = %+v, %v; want the file system above it, %+v", below, err, at)
	}
	file := folder + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Disk(file + "/below"); err == nil {
		t.Errorf("Disk below a file = %+v, want an error", got)
	}
}

func TestReadClock(t *testing.T) {
	if c, err := ReadClock(); err != nil || c.Error < 0 {
		t.Errorf("ReadClock() = %+v, %v", c, err)
	}
}
