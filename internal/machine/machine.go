// Package machine reads facts of the machine that it runs on, as plain values:
// by which roads others arrive, which addresses are its own, who holds a port.
// It decides nothing and changes nothing. What the kernel shows is read below
// a file system that the caller gives, and a line that cannot be read is passed
// over: the files are text that other programs may have had a hand in.
package machine

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Facts are what the kernel and a few files say of this machine at one moment.
type Facts struct {
	Gateways   []netip.Addr // next hops of the default routes, without zone, so that a prefix can hold them
	Own        []Interface  // every own address, loopback too
	Container  string       // the kind of container that this process runs in; "" when nothing shows one
	Forwarders []string     // programs seen running that carry connections on and lose the client's address
	Resolvers  []netip.Addr // nameservers of resolv.conf, and those that a local stub of systemd asks
	Ports      Ports        // which ports this process may listen on
}

// An Interface is one own address with the network that it stands in.
type Interface struct {
	Name   string       // "" when no route tells
	Prefix netip.Prefix // the address, not masked, and its network's length
	Bridge bool         // a bridge: what containers behind it send arrives from this very address
}

// Here reads the facts of this machine.
func Here() (Facts, error) {
	f, err := Read(os.DirFS("/"))
	if err == nil && len(f.Own) == 0 { // some sandboxes have no fib_trie
		f.Own, err = fromKernel()
	}
	return f, err
}

// Read reads the facts below root, whose folders are proc, sys and etc. It
// fails when the routes cannot be read: without them nobody can say that no
// trusted network holds a gateway. Other files may be missing, as they are
// where IPv6 is off.
func Read(root fs.FS) (Facts, error) {
	routes, err := read(root, "proc/net/route")
	if err != nil {
		return Facts{}, fmt.Errorf("default routes: %w; let this process read /proc", err)
	}
	routes6 := text(root, "proc/net/ipv6_route")
	four, linked := parseRoutes(routes)
	own := placed(parseLocal(text(root, "proc/net/fib_trie")), linked)
	own = append(own, parseIfInet6(text(root, "proc/net/if_inet6"))...)
	for i := range own {
		own[i].Bridge = isBridge(root, own[i].Name)
	}
	return Facts{
		Gateways:   distinct(append(four, parseRoutes6(routes6)...)),
		Own:        own,
		Container:  container(root),
		Forwarders: forwarders(root),
		Resolvers:  resolvers(root),
		Ports:      ports(root),
	}, nil
}

// Bridges returns the machine's own addresses on bridges.
func (f Facts) Bridges() []netip.Addr {
	var list []netip.Addr
	for _, i := range f.Own {
		if i.Bridge {
			list = append(list, i.Prefix.Addr())
		}
	}
	return distinct(list)
}

// Roads returns the addresses that a stranger's connection may seem to come
// from when something on its way replaces the client's address: gateways,
// bridges and every other own address but loopback. None of them may ever be
// trusted.
func (f Facts) Roads() []netip.Addr {
	list := slices.Clone(f.Gateways)
	for _, i := range f.Own {
		if a := i.Prefix.Addr(); !a.IsLoopback() {
			list = append(list, a)
		}
	}
	return distinct(list)
}

func distinct(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// maxFile bounds what is read of one file: the greatest, the table of sockets,
// lists those that listen first.
const maxFile = 4 << 20

func read(root fs.FS, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// text returns a file that may be missing.
func text(root fs.FS, name string) []byte {
	b, err := read(root, name)
	if err != nil {
		return nil
	}
	return b
}

// fields yields the words of each line.
func fields(b []byte) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range bytes.Lines(b) {
			if words := strings.Fields(string(line)); len(words) > 0 && !yield(words) {
				return
			}
		}
	}
}

func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}
