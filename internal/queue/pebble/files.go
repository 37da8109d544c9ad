package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/blob"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
)

// What the library keeps in its folder, and how whole it is. The library reads
// its MANIFEST and its newest log to the first place that is not valid and
// takes that for the end, so somebody else must look what lies behind.

// A folder is the names in the folder of a store.
type folder struct {
	fs        vfs.FS
	dir       string
	manifests []string // by number, the newest last; of those of which there is a copy only, too
	logs      []string // the same
	tables    []string
	blobs     []string
	options   []string
	ledger    bool
}

// look lists a folder. One that is not there has no names.
func look(f vfs.FS, dir string) (*folder, error) {
	names, err := f.List(dir)
	if err != nil && !isMissing(err) {
		return nil, err
	}
	have := &folder{fs: f, dir: dir}
	for _, name := range names {
		main := strings.TrimPrefix(name, "copy-of-")
		switch {
		case strings.HasPrefix(main, manifestPrefix) && number(main) > 0:
			if !slices.Contains(have.manifests, main) {
				have.manifests = append(have.manifests, main)
			}
		case strings.HasSuffix(name, ".log") && number(name) > 0:
			have.logs = append(have.logs, name)
		case strings.HasSuffix(name, ".sst"):
			have.tables = append(have.tables, name)
		case strings.HasSuffix(name, ".blob"):
			have.blobs = append(have.blobs, name)
		case strings.HasPrefix(name, "OPTIONS-") && !strings.Contains(name, "."):
			have.options = append(have.options, name)
		case name == ledgerName:
			have.ledger = true
		}
	}
	for _, list := range [][]string{have.manifests, have.logs} {
		slices.SortFunc(list, func(a, b string) int { return int(number(a)) - int(number(b)) })
	}
	return have, nil
}

// number returns the number in the name of one of the library's files; 0: none.
func number(name string) uint64 {
	name = strings.TrimSuffix(strings.TrimPrefix(name, manifestPrefix), ".log")
	n, err := strconv.ParseUint(name, 10, 63)
	if err != nil {
		return 0
	}
	return n
}

// any reports whether there is anything of a store.
func (f *folder) any() bool {
	return f.ledger || len(f.manifests)+len(f.logs)+len(f.tables)+len(f.blobs) > 0
}

func (f *folder) read(name string) ([]byte, error) { return readFile(f.fs, f.fs.PathJoin(f.dir, name)) }

func readFile(f vfs.FS, path string) (b []byte, err error) {
	file, err := f.Open(path)
	if err != nil {
		return nil, err
	}
	b, err = io.ReadAll(file)
	return b, errors.Join(err, file.Close())
}

// place names an octet of a file.
func place(path string, at int64) string { return fmt.Sprintf("%s, octet %d", path, at) }

// A repair is what a store needs so that the library reads all of it. Nothing
// is lost by it.
type repair struct {
	name  string // of the file that is to have these octets
	is    []byte
	aside bool // the file is to be put aside, and no other in its place
	why   string
}

// repairs returns what is to be mended in a folder: a MANIFEST of which less
// can be read than of its copy, and the marks that say which files are valid,
// which are empty files with long names. OPTIONS say nothing that we do not.
func (f *folder) repairs() (list []repair, err error) {
	if len(f.manifests) == 0 {
		return nil, nil
	}
	current, err := atomicfs.ReadMarker(f.fs, f.dir, "manifest")
	if err != nil {
		return nil, err
	}
	newest := f.manifests[len(f.manifests)-1]
	if current == "" {
		current = newest
		list = append(list, repair{name: "marker.manifest.000001." + current, why: "the mark that names the MANIFEST is missing"})
	}
	version, err := atomicfs.ReadMarker(f.fs, f.dir, "format-version")
	if err != nil {
		return nil, err
	}
	if version == "" {
		list = append(list, repair{name: "marker.format-version.000001." + lib.FormatValueSeparation.String(), why: "the mark of the library's version is missing"})
	}
	for _, name := range f.options {
		b, err := f.read(name)
		if err == nil {
			err = (&lib.Options{Comparer: lib.DefaultComparer, Merger: lib.DefaultMerger}).CheckCompatibility(f.dir, string(b))
		}
		if err != nil {
			list = append(list, repair{name: name, aside: true, why: name + " is damaged: " + plain(err)})
		}
	}
	main, errMain := f.read(current)
	twin, errTwin := f.read(twinOf(current))
	if errTwin != nil || errMain != nil && !isMissing(errMain) {
		return list, nil //nolint:nilerr // without a copy there is nothing to mend it with; the library says what is wrong with the MANIFEST
	}
	end, all := manifestEnd(main), manifestEnd(twin)
	switch {
	case isMissing(errMain):
		list = append(list, repair{name: current, is: twin, why: current + " is missing, and its copy is there"})
	case all > end:
		list = append(list, repair{name: current, is: twin, why: fmt.Sprintf("%s cannot be read to its end; its copy can", place(current, end))})
	}
	return list, nil
}

// mend makes the repairs. What is damaged stays beside, under another name.
func (f *folder) mend(list []repair) (err error) {
	for _, r := range list {
		path := f.fs.PathJoin(f.dir, r.name)
		if _, err := f.fs.Stat(path); err == nil {
			if err := f.setAside(r.name); err != nil {
				return err
			}
		}
		if r.aside {
			continue
		}
		if err := writeFile(f.fs, path, r.is); err != nil {
			return err
		}
	}
	return nil
}

// setAside keeps a file that is damaged under a name that nobody uses.
func (f *folder) setAside(name string) error {
	for n := 1; ; n++ {
		to := f.fs.PathJoin(f.dir, fmt.Sprintf("damaged-%d-%s", n, name))
		if _, err := f.fs.Stat(to); err == nil {
			continue
		}
		return f.fs.Rename(f.fs.PathJoin(f.dir, name), to)
	}
}

// writeFile writes a file that is there whole or not at all.
func writeFile(f vfs.FS, path string, b []byte) error {
	temp := f.PathJoin(f.PathDir(path), "new-"+f.PathBase(path)) // a name that gets no twin
	file, err := f.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := f.Rename(temp, path); err != nil {
		return err
	}
	return syncFolder(f, f.PathDir(path))
}

// The form of logs and MANIFESTs: blocks of 32 KiB, and in them chunks of a
// masked CRC-32C (4 octets), a length (2), a kind (1), in logs the number of
// the log (4) and in newer ones an offset (8), and what they carry. A record is
// one whole chunk, or a first, some in the middle and a last.
const (
	blockSize   = 32 << 10
	plainHeader = 7
	logHeader   = 11
	syncHeader  = 19
)

// A chunk is one that was found whole.
type chunk struct {
	position byte // 0: a whole record, 1: its first, 2: in the middle, 3: its last
	log      uint32
	numbered bool
	data     []byte
	size     int
}

// chunkAt reads the chunk at the head of b, which goes to the end of its block
// or of the file.
func chunkAt(b []byte) (c chunk, ok bool) {
	if len(b) < plainHeader || b[6] == 0 || b[6] > 12 {
		return c, false
	}
	header := [...]int{plainHeader, logHeader, syncHeader}[(b[6]-1)/4]
	c.size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if c.size > len(b) {
		return c, false
	}
	sum := crc32.Checksum(b[6:c.size], castagnoli)
	if sum = sum>>15 | sum<<17; sum+0xa282ead8 != binary.LittleEndian.Uint32(b) {
		return c, false
	}
	if c.position, c.data = (b[6]-1)%4, b[header:c.size]; header > plainHeader {
		c.log, c.numbered = binary.LittleEndian.Uint32(b[7:]), true
	}
	return c, true
}

// block returns what of b is in the block of an offset, from there on.
func block(b []byte, at int) []byte {
	return b[at:min(len(b), at-at%blockSize+blockSize)]
}

// manifestEnd returns the offset to which a MANIFEST's records can be read.
func manifestEnd(b []byte) (end int64) {
	for at := 0; at < len(b); {
		in := block(b, at)
		if len(in) < plainHeader && at+len(in) < len(b) || len(in) >= plainHeader && zero(in) {
			at += len(in) // the rest of a block, which no chunk fits in
			continue
		}
		c, ok := chunkAt(in)
		if !ok {
			return end
		}
		if at += c.size; c.position == 0 || c.position == 3 {
			end = int64(at)
		}
	}
	return end
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// A hole is a part of a log that cannot be read, and after which it can.
type hole struct{ from, to int }

// logRecords returns the records of a log, also those behind holes. Where a log
// just ends, as after a crash, there is no hole.
func logRecords(b []byte, num uint32) (records [][]byte, holes []hole) {
	var record []byte
	whole := false // record has all from its first chunk on
	bad := -1
	for at := 0; at < len(b); {
		in := block(b, at)
		c, ok := chunkAt(in)
		if ok && c.numbered && c.log == num+1 && bad < 0 {
			break // it was closed here
		}
		if !ok || !c.numbered || c.log != num {
			if len(in) < syncHeader && zero(in) {
				at += len(in)
				continue
			}
			if bad < 0 {
				bad = at
			}
			at++
			continue
		}
		if bad >= 0 {
			holes, bad, whole = append(holes, hole{bad, at}), -1, false
		}
		if c.position == 0 || c.position == 1 {
			record, whole = nil, true
		}
		record = append(record, c.data...)
		if whole && (c.position == 0 || c.position == 3) {
			records, whole = append(records, record), false
		}
		at += c.size
	}
	return records, holes
}

// logOf returns a log that has these records.
func logOf(records [][]byte, num uint32) (b []byte) {
	for _, record := range records {
		for first := true; first || len(record) > 0; first = false {
			left := blockSize - len(b)%blockSize
			if left < logHeader+1 {
				b = append(b, make([]byte, left)...)
				left = blockSize
			}
			n := min(len(record), left-logHeader)
			kind := byte(7) // in the middle
			switch {
			case first && n == len(record):
				kind = 5
			case first:
				kind = 6
			case n == len(record):
				kind = 8
			}
			at := len(b)
			b = append(b, 0, 0, 0, 0, byte(n), byte(n>>8), kind)
			b = append(binary.LittleEndian.AppendUint32(b, num), record[:n]...)
			sum := crc32.Checksum(b[at+6:], castagnoli)
			binary.LittleEndian.PutUint32(b[at:], (sum>>15|sum<<17)+0xa282ead8)
			record = record[n:]
		}
	}
	return b
}

// holesIn returns, for people, where logs cannot be read and can after that.
func (f *folder) holesIn() (list []string) {
	for _, name := range f.logs {
		b, err := f.read(name)
		if err != nil {
			list = append(list, name+": "+err.Error())
			continue
		}
		_, holes := logRecords(b, uint32(number(name)))
		for _, h := range holes {
			list = append(list, fmt.Sprintf("%s: octets %d to %d cannot be read, and what follows them can", f.fs.PathJoin(f.dir, name), h.from, h.to))
		}
	}
	return list
}

// ends returns the first blob of the store whose end is not that of one. The
// library panics when it meets such a one, also in the background
// (reportCorruption, of v2.1.7). A blob that the store does not name was being
// written when the process was killed: the library removes it.
func (f *folder) ends(db *lib.DB) error {
	named := map[string]bool{}
	for b := range db.DebugCurrentVersion().BlobFiles.All() {
		named[b.Physical.FileNum.String()+".blob"] = true
	}
	for _, name := range f.blobs {
		if !named[name] {
			continue
		}
		path := f.fs.PathJoin(f.dir, name)
		file, err := f.fs.Open(path)
		if err != nil {
			return err
		}
		in, err := sstable.NewSimpleReadable(file)
		if err != nil {
			return errors.Join(err, file.Close())
		}
		if _, err = blob.NewFileReader(context.Background(), in, blob.FileReaderOptions{}); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

// said reports whether any log has a record.
func (f *folder) said() bool {
	for _, name := range f.logs {
		b, err := f.read(name)
		if err != nil {
			return true
		}
		if records, holes := logRecords(b, uint32(number(name))); len(records)+len(holes) > 0 {
			return true
		}
	}
	return false
}
