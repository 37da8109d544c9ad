package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A login or a key that others may write is refused where it is named; one that
// they may only read is taken, and told of by Exposed.
func TestSecretsThatOthersReach(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"login", "proxy", "key.pem", "cert.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("anna\nsecret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "f.hcl")
	text := `hostname = "mx.example.org"
listener "mx" {
  port = 25
}
tls {
  certificate = "cert.pem"
  key         = "key.pem"
}
route "default" {
  via         = "smarthost"
  host        = "smtp.provider.example:465"
  login       = "login"
  proxy       = "socks5://10.0.0.1:1080"
  proxy_login = "proxy"
}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, place string
	}{{"login", "12:17"}, {"proxy", "14:17"}, {"key.pem", "7:17"}} {
		for _, m := range []struct {
			mode os.FileMode
			want string
		}{{0o600, ""}, {0o640, ""}, {0o644, "may read it"}, {0o666, "may write it"}} {
			mode, want := m.mode, m.want
			file := filepath.Join(dir, c.name)
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			s, err := Load(path)
			refused := err != nil
			if !refused {
				err = s.Exposed()
			}
			says := fmt.Sprint(err)
			if want == "" && err != nil || want != "" && (!strings.Contains(says, want) || !strings.Contains(says, "f.hcl:"+c.place)) || refused != (mode == 0o666) {
				t.Errorf("%s of mode %04o: refused %v, says %v; want %q at line %s", c.name, mode, refused, err, want, c.place)
			}
			if err := os.Chmod(file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
