package machine

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Whatever a file says, what is made of it is whole.
func FuzzRead(f *testing.F) {
	f.Add(hostRoute, hostRoute6, hostTrie, hostInet6, hostTCP, hostTCP6, "nameserver 192.0.2.53\n")
	f.Add("a 0 0 0 0 0 0 0\n", "0 0 0 0 0 0 0 0 0 0\n", "|-- \n/32 host LOCAL\n", "0 0 0 0 0 ../../x\n", "0 :0 0 0A 0 0 0 0 0 0\n", "", "nameserver fe80::1%eth0")
	f.Fuzz(func(t *testing.T, route, route6, trie, inet6, tcp, tcp6, resolv string) {
		root := fstest.MapFS{}
		for name, s := range map[string]string{
			"proc/net/route": route, "proc/net/ipv6_route": route6, "proc/net/fib_trie": trie, "proc/net/if_inet6": inet6,
			"proc/net/tcp": tcp, "proc/net/tcp6": tcp6, "etc/resolv.conf": resolv, "proc/self/cgroup": route, "proc/1/environ": trie, "proc/self/status": tcp,
		} {
			root[name] = &fstest.MapFile{Data: []byte(s)}
		}
		facts, err := Read(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range slices.Concat(facts.Gateways, facts.Bridges(), facts.Resolvers) {
			if !a.IsValid() {
				t.Errorf("an address that is none in %+v", facts)
			}
		}
		for _, a := range facts.Gateways {
			if a.IsUnspecified() || a.Zone() != "" {
				t.Errorf("gateway %s", a)
			}
		}
		for _, i := range facts.Own {
			if !i.Prefix.IsValid() {
				t.Errorf("own address %+v", i)
			}
		}
		sockets, err := Listening(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sockets {
			if !s.Addr.IsValid() {
				t.Errorf("socket %+v", s)
			}
		}
	})
}

// An address that is printed as the kernel prints it is read as itself.
func FuzzKernelAddress(f *testing.F) {
	f.Add(uint32(0xCB007101), []byte("0123456789abcdef"), uint16(25))
	f.Fuzz(func(t *testing.T, n uint32, six []byte, port uint16) {
		a4 := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
		words := func(b []byte) string {
			var s strings.Builder
			for ; len(b) >= 4; b = b[4:] {
				fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(b))
			}
			return s.String()
		}
		if got, ok := hex4(words(a4.AsSlice())); !ok || got != a4 {
			t.Errorf("hex4(%s) = %v, %v", a4, got, ok)
		}
		line := func(a netip.Addr) string {
			return fmt.Sprintf("0: %s:%04X 0:0 0A 0:0 0:0 0 0 0 77 1\n", words(a.AsSlice()), port)
		}
		if got := parseSockets([]byte(line(a4))); len(got) != 1 || got[0] != (socket{netip.AddrPortFrom(a4, port), 77}) {
			t.Errorf("%s was read as %v", line(a4), got)
		}
		if len(six) < 16 {
			return
		}
		a6 := netip.AddrFrom16([16]byte(six))
		if got := parseSockets([]byte(line(a6))); len(got) != 1 || got[0].addr != netip.AddrPortFrom(a6, port) {
			t.Errorf("%s was read as %v", line(a6), got)
		}
		if got, ok := hex16(hex.EncodeToString(a6.AsSlice())); !ok || got != a6 {
			t.Errorf("hex16(%s) = %v, %v", a6, got, ok)
		}
	})
}
