package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/problem"
	"postern/internal/sandbox"
	"postern/internal/systemd"
	"postern/serve"
)

// serviceUser is who a relay goes on as that was started as root.
const serviceUser = "postern"

// shutIn is what a relay gives up once it is set up.
type shutIn struct {
	off  bool
	user string
	room *sandbox.Profile // after it was entered
}

func (f *shutIn) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.off, "no-sandbox", false, "do without Landlock and seccomp")
	c.Flags().StringVar(&f.user, "user", "", "started as root: go on as `NAME` (default postern, where there is a configuration and that user)")
}

// become binds what needs root and goes on as another user. Without root, or
// without anybody to become, nothing is bound and nobody changes.
func (f *shutIn) become(s serve.Settings, dir string, passed []systemd.Socket) (*serve.Sockets, error) {
	u, err := f.who(s.Local)
	if err != nil {
		return nil, err
	}
	if len(passed) == 0 && u == nil {
		return nil, nil //nolint:nilnil // none is bound yet
	}
	sockets, err := serve.Bind(s.Ports(), passed)
	if err != nil || u == nil {
		return sockets, err
	}
	if err := u.Own(dir); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	return sockets, u.Drop()
}

// who is the user to become; nil for nobody.
func (f *shutIn) who(local bool) (*sandbox.User, error) {
	if os.Geteuid() != 0 {
		if me, err := user.LookupId(strconv.Itoa(os.Geteuid())); f.user != "" && (err != nil || me.Username != f.user) {
			return nil, fmt.Errorf("only root can go on as user %s; start as root, or as that user", f.user)
		}
		return nil, nil //nolint:nilnil // nobody is an answer
	}
	name := f.user
	if name == "" {
		if name = serviceUser; local {
			return nil, nil //nolint:nilnil // nobody is an answer
		}
	}
	u, err := sandbox.FindUser(name)
	var none *sandbox.NoUserError
	if errors.As(err, &none) && f.user == "" || err == nil && u.Root() {
		return nil, nil //nolint:nilnil // nobody is an answer
	}
	return &u, err
}

// enter shuts the process in, and says in a row what holds. What the log should
// know of it is said by tell, once a person has read the first lines.
func (f *shutIn) enter(s serve.Settings, dir string, log *slog.Logger) (row string, tell func(), err error) {
	var notes []func()
	tell = func() {
		for _, note := range notes {
			note()
		}
	}
	id := strconv.Itoa(os.Geteuid())
	as := "user " + id
	if me, err := user.LookupId(id); err == nil { // user.Current remembers who started us
		as = "user " + me.Username
	}
	if os.Geteuid() == 0 {
		notes = append(notes, func() { log.Warn("the relay runs as root; make a user postern, or say --user NAME") })
	}
	if f.off {
		return "off (--no-sandbox); " + as, tell, nil
	}
	room, err := roomOf(s, dir)
	if err != nil {
		return "", nil, err
	}
	walls, err := sandbox.Enter(room)
	if err != nil {
		return "", nil, err
	}
	if walls.Landlock > 0 {
		f.room = &room
	}
	for _, path := range walls.Missing {
		notes = append(notes, func() {
			log.Warn("the sandbox was entered without a path of the configuration, which is not there; make it and restart", slog.String("path", path))
		})
	}
	notes = append(notes, func() { log.Info("sandbox entered", slog.String("walls", walls.String()+"; "+as)) })
	return walls.String() + "; " + as, tell, nil
}

// fits refuses a configuration that needs more than this process reaches.
func (f *shutIn) fits(s serve.Settings, dir string) error {
	if f.room == nil {
		return nil
	}
	room, err := roomOf(s, dir)
	if err != nil {
		return err
	}
	if out := f.room.Lacks(room); len(out) > 0 {
		return problem.At(problem.Pos{File: s.File}, "the relay was shut in when it started, and this needs more: "+strings.Join(out, ", "), "restart for this; what is in force stays until then")
	}
	return nil
}

// ports are what a relay connects to by itself: DNS, by TCP where an answer is
// long, and the mail servers of others where a route leads there. What a route,
// a hop or a gateway names comes beside.
func ports(s serve.Settings) []uint16 {
	list := []uint16{53}
	if s.Resolver.IsValid() {
		list = []uint16{s.Resolver.Port()}
	}
	if slices.ContainsFunc(s.Routes, func(r serve.Route) bool { return len(r.Smarthosts) == 0 && r.Proxy == "" && !r.Hold }) {
		list = append(list, 25)
	}
	return list
}

// system is what the Go runtime and libraries read while they run: names,
// certificates of authorities, the time zone, and what the kernel says of
// this process and its network.
var system = []string{
	"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/localtime", "/etc/services", "/usr/share/zoneinfo",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
	"/proc/self", "/proc/sys/net", "/proc/loadavg", "/proc/meminfo", "/sys/class/net", "/dev/null",
}

// roomOf is what a relay with these settings reaches of its machine.
func roomOf(s serve.Settings, dir string) (sandbox.Profile, error) {
	p := sandbox.Profile{Write: []string{dir}, Sockets: []string{dir}, Connect: ports(s)}
	for _, path := range append(slices.Clone(system), os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR")) {
		if _, err := os.Stat(path); err == nil {
			p.Read = append(p.Read, path)
		}
	}
	// resolv.conf is replaced by renaming. As another user than root all of
	// /etc can be left readable for it: what is secret there is not for us.
	if real, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && filepath.Dir(real) != "/etc" {
		p.Read = append(p.Read, filepath.Dir(real))
	} else if os.Geteuid() != 0 {
		p.Read = append(p.Read, "/etc")
	}
	files := append(slices.Clone(s.Files), s.ClientCAs...)
	for _, path := range append(files, s.File, s.TLS.File, s.TLS.Key) {
		if path == "" {
			continue
		}
		folders, err := around(path)
		if err != nil {
			return p, err
		}
		p.Read = append(p.Read, folders...)
	}
	for _, w := range s.Policy.Gateways {
		for _, r := range w.To {
			p.Connect = append(p.Connect, r.Port())
		}
	}
	for _, l := range s.Ports() {
		for _, a := range l.Addrs {
			p.Bind = append(p.Bind, a.Port())
		}
	}
	var hosts []string
	for _, h := range s.Hops {
		hosts = append(hosts, hopPaths(h, &p)...)
		if h.Ask != nil {
			hosts = append(hosts, hopPaths(*h.Ask, &p)...)
		}
	}
	for _, r := range s.Routes {
		hosts = append(hosts, r.Smarthosts...)
		if _, proxy, ok := strings.Cut(r.Proxy, "://"); ok {
			hosts = append(hosts, proxy)
		}
	}
	for _, h := range hosts {
		_, port, err := net.SplitHostPort(h)
		if n, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil {
			p.Connect = append(p.Connect, uint16(n))
		}
	}
	return p, nil
}

// hopPaths adds where mailboxes are on this machine, and returns where they
// are on another.
func hopPaths(h serve.NextHop, p *sandbox.Profile) (hosts []string) {
	switch {
	case h.Maildir != "":
		// The folder that must be there; what is below it is made.
		base, _, each := strings.Cut(h.Maildir, "{")
		if base = filepath.Dir(base + "x"); !each {
			base = h.Maildir
			p.Read = append(p.Read, filepath.Dir(base))
		}
		p.Write = append(p.Write, base)
	case h.Network == "unix":
		p.Sockets = append(p.Sockets, filepath.Dir(h.Address))
	case h.Network == "tcp":
		return []string{h.Address}
	}
	return nil
}

// around returns the folder of a file, and that of what the file leads to:
// the next one is put there under the same name.
func around(path string) ([]string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	folders := []string{filepath.Dir(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(real) != folders[0] {
		folders = append(folders, filepath.Dir(real))
	}
	return folders, nil
}
