package maildir

import (
	"io"
	"io/fs"
	"os"
	"path"
)

// A disk is what a store needs of one. Names are below the base, and none
// leads out of it.
type disk interface {
	Mkdir(name string) error
	Create(name string) (file, error) // new, for writing
	Rename(from, to string) error
	Remove(name string) error
	Sync(folder string) error // makes durable which names stand in it
	List(folder string, most int) ([]fs.FileInfo, error)
	Close() error
}

type file interface {
	io.WriteCloser
	Sync() error
}

// rooted is a folder of the system. os.Root follows no symbolic link that
// leads out of it: who owns a mailbox cannot have us write elsewhere.
type rooted struct{ root *os.Root }

func (d rooted) Mkdir(name string) error { return d.root.Mkdir(name, 0o700) }

func (d rooted) Create(name string) (file, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (d rooted) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d rooted) Remove(name string) error     { return d.root.Remove(name) }
func (d rooted) Close() error                 { return d.root.Close() }

func (d rooted) Sync(folder string) error {
	f, err := d.root.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d rooted) List(folder string, most int) ([]fs.FileInfo, error) {
	f, err := d.root.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(most)
	var list []fs.FileInfo
	for _, e := range entries {
		// By the root again: a name may have become a link.
		if info, err := d.root.Lstat(path.Join(folder, e.Name())); err == nil {
			list = append(list, info)
		}
	}
	return list, err
}
