package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// system is what a server's world has besides the server: a shell and what start scripts call.
const system = "dash coreutils sed grep mawk libc-bin findutils debianutils hostname util-linux"

// roots names the trees that are unpacked, and the packages that are in each. They are apart
// because mail servers want the same file names.
var roots = map[string]string{
	"postfix":   "postfix postfix-pcre",
	"exim":      "exim4-daemon-light",
	"opensmtpd": "opensmtpd",
	"sendmail":  "sendmail-bin sendmail-base sendmail-cf sensible-mda procmail m4",
	"tools":     "nmap iproute2",
	"clients":   "swaks libnet-ssleay-perl libauthen-sasl-perl libio-socket-inet6-perl msmtp curl python3-minimal libpython3-stdlib postfix",
	"nghttpx":   "nghttp2-proxy",
	// Proxies and forwarders share a tree: none wants another's files. Postfix is the smarthost
	// to which a port is passed on.
	"proxies": "microsocks dante-server squid tinyproxy haproxy nginx libnginx-mod-mail libnginx-mod-stream socat rinetd nftables openssh-server openssh-client privoxy apache2 postfix iproute2",
	// Debian's squid has no https_port; the one that has conflicts with it.
	"wrapped": "squid-openssl stunnel4 haproxy tinyproxy iproute2",
	"others":  "ncat shadowsocks-libev trafficserver v2ray xinetd pen redir postfix iproute2",
}

var unpacking sync.Mutex

// Root returns the folder with the packages of that name unpacked, and unpacks them into the
// cache if they are not there. Packages come from Debian through apt, with their dependencies
// down to the C library, so that the result does not depend on what the machine has installed.
func Root(ctx context.Context, name string) (string, error) {
	packages, ok := roots[name]
	if !ok {
		return "", fmt.Errorf("packages %q: unknown", name)
	}
	unpacking.Lock()
	defer unpacking.Unlock()
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	// Tests of several packages run at the same time, in processes of their own.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	// A list that changed gets a tree of its own.
	root := filepath.Join(cache, fmt.Sprintf("%s-%08x", name, crc32.ChecksumIEEE([]byte(packages+" "+system))))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	partial := root + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := unpack(ctx, filepath.Join(cache, "archives"), partial, strings.Fields(packages+" "+system)); err != nil {
		return "", fmt.Errorf("packages %s: %w", packages, err)
	}
	return root, os.Rename(partial, root)
}

func cacheDir() (string, error) {
	dir := os.Getenv("POSTERN_PEERS_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no cache folder: %w; set POSTERN_PEERS_CACHE", err)
		}
		dir = filepath.Join(base, "postern", "peers")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func unpack(ctx context.Context, archives, root string, packages []string) error {
	// apt refuses to run without this folder.
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return err
	}
	files, err := download(ctx, archives, packages)
	if err != nil {
		return err
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		if _, err := run(ctx, "dpkg", "-x", filepath.Join(archives, file), root); err != nil {
			return err
		}
	}
	// The one link that mawk's installer would make and that is needed here.
	return os.Symlink("mawk", filepath.Join(root, "usr/bin/awk"))
}

// download fetches the packages and all they depend on, and returns the names of their files. The
// lists of a fresh machine are missing, those of an old one name files that are gone: then they
// are fetched, once.
func download(ctx context.Context, archives string, packages []string) ([]string, error) {
	files, err := fetch(ctx, archives, packages)
	if err == nil {
		return files, nil
	}
	if _, update := run(ctx, "apt-get", "update"); update != nil {
		return nil, errors.Join(err, update)
	}
	return fetch(ctx, archives, packages)
}

func fetch(ctx context.Context, archives string, packages []string) ([]string, error) {
	install := func(archives string, more ...string) (string, error) {
		// With no status file nothing counts as installed.
		args := append([]string{
			"install", "--yes", "--no-install-recommends",
			"-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::archives=" + archives, "-o", "Debug::NoLocking=1",
		}, more...)
		return run(ctx, "apt-get", append(args, packages...)...)
	}
	// apt lists only what the folder has not got, so it is asked about one that is empty.
	empty, err := os.MkdirTemp(archives, "empty")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(empty) }()
	list, err := install(empty, "--print-uris")
	if err != nil {
		return nil, err
	}
	if _, err := install(archives, "--download-only"); err != nil {
		return nil, err
	}
	var files []string
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(line, "'") {
			files = append(files, fields[1])
		}
	}
	return files, nil
}

// run runs a command of the machine to its end and returns what it printed.
func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}
