package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLacks(t *testing.T) {
	dir := t.TempDir()
	store, link := filepath.Join(dir, "store"), filepath.Join(dir, "link")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(store, link); err != nil {
		t.Fatal(err)
	}
	entered := Profile{Read: []string{"/etc/postern", link}, Write: []string{"/var/lib/postern"}, Sockets: []string{"/run/dovecot"}, Bind: []uint16{25}, Connect: []uint16{25, 53}}
	for _, c := range []struct {
		name string
		want Profile
		out  []string
	}{
		{"itself", entered, nil},
		{"less", Profile{Read: []string{"/etc/postern"}, Connect: []uint16{53}}, nil},
		{"below", Profile{Read: []string{"/etc/postern/keys", "/var/lib/postern/queue"}}, nil},
		{"by its other name", Profile{Read: []string{store}}, nil},
		{"above", Profile{Read: []string{"/etc"}}, []string{"read /etc"}},
		{"beside, with the same beginning", Profile{Write: []string{"/var/lib/postern2"}}, []string{"write /var/lib/postern2"}},
		{"to write what is read", Profile{Write: []string{"/etc/postern"}}, []string{"write /etc/postern"}},
		{"ports", Profile{Bind: []uint16{25, 587, 587}, Connect: []uint16{2525}}, []string{"connect to TCP port 2525", "listen on TCP port 587"}},
		{"a socket elsewhere", Profile{Sockets: []string{"/run/cyrus"}}, []string{"speak to the sockets in /run/cyrus"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := entered.Lacks(c.want); !slices.Equal(got, c.out) {
				t.Errorf("Lacks = %q, want %q", got, c.out)
			}
		})
	}
}

func TestWallsInARow(t *testing.T) {
	for _, c := range []struct {
		w    Walls
		want string
	}{
		{Walls{Landlock: 6, Seccomp: true}, "landlock v6: files, TCP ports; seccomp"},
		{Walls{Landlock: 3}, "landlock v3: files (ports from v4 on); no seccomp here"},
		{Walls{Seccomp: true}, "no landlock in this kernel; seccomp"},
	} {
		if got := c.w.String(); got != c.want {
			t.Errorf("%+v = %q, want %q", c.w, got, c.want)
		}
	}
}
