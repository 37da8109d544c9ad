package serve

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"postern/forward"
)

// A tunnelSearch is what is looked for; zero fields let all pass.
type tunnelSearch struct {
	id, identity string
	peer         netip.Addr
	since, until time.Time
}

func (s *tunnelSearch) match(t *TunnelTrace) bool {
	switch {
	case s.id != "" && t.ID != s.id, s.identity != "" && !strings.EqualFold(t.Identity, s.identity):
		return false
	case !s.since.IsZero() && t.Asked.Before(s.since), !s.until.IsZero() && !t.Asked.Before(s.until):
		return false
	}
	return !s.peer.IsValid() || t.Peer == s.peer.String()
}

// tunnelSearchOf reads the words of a search; false when they look for what
// only mail has.
func tunnelSearchOf(v url.Values) (s tunnelSearch, ok bool, err error) {
	for _, name := range []string{"from", "to", "address", "name"} {
		if v.Get(name) != "" {
			return s, false, nil
		}
	}
	s.id, s.identity = v.Get("id"), v.Get("identity")
	if text := v.Get("peer"); text != "" {
		if s.peer, err = netip.ParseAddr(text); err != nil {
			return s, false, fmt.Errorf("peer: %w", err)
		}
		s.peer = s.peer.Unmap()
	}
	for name, at := range map[string]*time.Time{"since": &s.since, "until": &s.until} {
		if text := v.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return s, false, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return s, s.id != "" || s.identity != "" || s.peer.IsValid(), nil
}

// findTunnels returns the newest of those that match, the newest first, and
// whether there are more. now tells what an open one has carried; nil: no relay
// runs.
func findTunnels(dir string, s tunnelSearch, most int, now func(id string) (forward.Count, bool)) (list []TunnelTrace, more bool, err error) {
	found := map[string]TunnelTrace{}
	for _, shelf := range []shelf{knownShelf, strangersShelf} {
		// The newest first: a file that is turned meanwhile is read twice, and none is missed.
		for n := range shelf.files {
			if err := readTunnels(shelf.file(dir, n), func(t TunnelTrace) {
				if before, ok := found[t.ID]; s.match(&t) && (!ok || before.State == tunnelOpen) {
					found[t.ID] = t
				}
			}); err != nil {
				return nil, false, err
			}
		}
	}
	for _, t := range found {
		if t.State == tunnelOpen {
			t.State = tunnelLost
			if now != nil {
				if n, ok := now(t.ID); ok {
					t.State, t.Up, t.Down = tunnelOpen, n.Up, n.Down
				}
			}
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b TunnelTrace) int { return cmp.Or(b.Asked.Compare(a.Asked), cmp.Compare(b.ID, a.ID)) })
	if more = most > 0 && len(list) > most; more {
		list = list[:most]
	}
	return list, more, nil
}

// readTunnels reads one file. A line that was not written whole is left out.
func readTunnels(name string, see func(TunnelTrace)) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("traces of tunnels: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), 64<<10)
	for lines.Scan() {
		var t TunnelTrace
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 && json.Unmarshal(line, &t) == nil && t.ID != "" {
			see(t)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("traces of tunnels: %w", err)
	}
	return nil
}
