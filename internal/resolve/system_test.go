package resolve

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := write("resolv.conf", "nameserver 192.0.2.53\nnameserver 2001:db8::53\noptions timeout:1 attempts:3\n")
	hosts := write("hosts", "127.0.0.1 localhost\n192.0.2.7 mx.test MX2.test # ours\n\nnot-an-address name\n2001:db8::7\tmx.test.\n192.0.2.7 mx.test\n")
	r, err := fromFiles(conf, hosts)
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{r.servers[0].addr.String(), r.servers[1].addr.String()}; !slices.Equal(got, []string{"192.0.2.53:53", "[2001:db8::53]:53"}) {
		t.Errorf("servers = %q", got)
	}
	if r.o.Timeout != time.Second || r.o.Rounds != 3 {
		t.Errorf("timeout %v, %d rounds, want 1s and 3", r.o.Timeout, r.o.Rounds)
	}
	got, err := r.Addresses(t.Context(), "MX.test.")
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Addresses of a name in the hosts file = %v, %v, want %v", got, err, want)
	}

	r, err = fromFiles(filepath.Join(dir, "missing"), filepath.Join(dir, "missing"))
	if err != nil || r.servers[0].addr.String() != "127.0.0.1:53" {
		t.Errorf("without files: %v, want the server of this machine", err)
	}
	if _, err := fromFiles(write("bad", "nameserver one\n"), hosts); err == nil || !strings.Contains(err.Error(), "--resolver") {
		t.Errorf("a nameserver that is no address: %v, want what to do about it", err)
	}
}

func FuzzReadHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 a b # c\n")
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := readHosts(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, list := range hosts {
			if name != strings.ToLower(name) || len(list) == 0 {
				t.Fatalf("readHosts(%q) gives %q %v", text, name, list)
			}
		}
	})
}
