package doctor

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"postern/internal/machine"
)

// A Foreign is the configuration of another server, as it lies on a disk.
type Foreign struct {
	Dir      string              // the folder that holds it, as a person named it
	Hostname string              // the machine's name, which is a default of many servers
	Own      []machine.Interface // its addresses, of which defaults are made; none: not known
	Read     func(path string) ([]byte, error)
}

// A Reader reads one kind of server's configuration and says which forms would
// relay for a stranger, and at which line. It runs nothing and changes nothing.
type Reader struct {
	Name  string // of the flag and the software: "postfix"
	Title string // for people
	Usual string // the folder where its configuration lies
	Read  func(context.Context, Foreign) ([]Finding, error)
}

// Readers lists what there is: a new one is a file of its own and a line here.
func Readers() []Reader {
	return []Reader{
		{Name: "postfix", Title: "Postfix", Usual: "/etc/postfix", Read: Postfix},
	}
}

// maxForeign bounds what is read of one file.
const maxForeign = 1 << 20

// Here says that the configuration in dir is that of this machine.
func Here(dir string) (Foreign, error) {
	facts, err := machine.Here()
	if err != nil {
		return Foreign{}, err
	}
	name, err := os.Hostname()
	if err != nil {
		return Foreign{}, fmt.Errorf("name of this machine: %w", err)
	}
	return Foreign{Dir: dir, Hostname: name, Own: facts.Own, Read: readFile}, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxForeign+1))
	if err == nil && len(b) > maxForeign {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxForeign)
	}
	return b, err
}

// open reads a file that the configuration names. What it calls usual is
// looked for in the folder that the person named: it may be a copy from
// another machine.
func (f Foreign) open(usual, path string) (name, text string, err error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(usual, path)
	}
	if rest, ok := strings.CutPrefix(filepath.Clean(path), usual+"/"); ok {
		path = filepath.Join(f.Dir, rest)
	}
	b, err := f.Read(path)
	return path, string(b), err
}
