package pebble

import (
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A view is a file system on which some files are others than on the disk,
// which it does not change. A store that is damaged is read through one.
type view struct {
	vfs.FS
	files map[string][]byte // by path
}

func newView(f vfs.FS, dir string, repairs []repair) *view {
	v := &view{f, map[string][]byte{}}
	for _, r := range repairs {
		if r.aside {
			continue
		}
		v.files[f.PathJoin(dir, r.name)] = r.is
	}
	return v
}

func (v *view) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if b, ok := v.files[name]; ok {
		return vfs.NewMemFile(b), nil
	}
	return v.FS.Open(name, opts...)
}

func (v *view) Stat(name string) (vfs.FileInfo, error) {
	if b, ok := v.files[name]; ok {
		return vfs.NewMemFile(b).Stat()
	}
	return v.FS.Stat(name)
}

func (v *view) List(dir string) ([]string, error) {
	names, err := v.FS.List(dir)
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "OPTIONS-") })
	have := map[string]bool{}
	for _, name := range names {
		have[name] = true
	}
	for path := range v.files {
		if name := v.PathBase(path); v.PathDir(path) == v.PathDir(v.PathJoin(dir, "x")) && !have[name] {
			names = append(names, name)
		}
	}
	return names, err
}

// Lock does nothing: who makes a view has locked the folder, and may read it
// through several.
func (v *view) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (v *view) Unwrap() vfs.FS { return v.FS }
