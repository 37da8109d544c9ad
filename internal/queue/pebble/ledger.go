package pebble

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A ledger is what the store must hold, in a file of its own that the library
// does not know: of each message that came, changed or left a line, and a line
// for each change that is surely on the disk. The library takes a damaged end
// of its files for their end; the ledger knows what lies behind it.
//
// It costs no second sync: a line is entered before its batch is committed, and
// the file is synced beside the library's log, while that is (fence.go). After
// the sync, and before anybody is answered, the change is acknowledged by
// another line, which the next sync makes stable. So what was acknowledged is
// in both files. What was only entered may be in either, as far as the crash
// let it, and what the store has and the ledger does not know came last.
//
// A process that is killed leaves its acknowledgements behind; a machine that
// loses power may lose those of the last sync. Then a message may be missing of
// which nobody knows whether its client was answered: it is told of as such.
type ledger struct {
	fence *fence
	path  string
	id    [16]byte // of the store, for as long as it lives

	mu     sync.Mutex // held briefly, by each commit
	lines  []byte     // entered, and not written; their sums are made when they are
	turn   uint64     // of the last batch
	flying []flight   // the batches from turn first on that have not ended, or wait for one that has not
	first  uint64

	writing sync.Mutex // held over a write to the file
	spare   []byte     // lines that were written
	syncing sync.RWMutex
	file    vfs.File
	chain   uint32 // the sum of the last line
	size    int64
	ready   int64 // up to here the file is written, with zeros behind its lines
	rewrite int64 // the size at which it is written anew
}

// A flight is a batch on its way.
type flight struct{ ended bool }

const (
	ledgerName = "ledger"
	lineSize   = 32
	// ledgerStep is how many zeros are written ahead: a sync of lines that take
	// the place of zeros has no size and no place of the file to make stable, and
	// costs half as much.
	ledgerStep = 256 << 10
	// leastRewrite is the length of a ledger that is not worth shortening:
	// 130,000 messages that came and left.
	leastRewrite = 16 << 20
)

// The kinds of lines.
const (
	headLine   = 'L' // the store's id; the first
	thereLine  = 'p' // a key has a value of this sum
	leftLine   = 'd' // a key is gone
	wholeLine  = 'e' // the end of what was there when the file was made, and their number
	ackLine    = 'a' // a batch of so many lines, and all batches before a number, are stable
	closedLine = 'c' // the store was closed; all before is as it says
)

// A line is the kind, the first octet of the key, its id (or a number), the sum
// of its value, the turn of its batch; then the chained sum: CRC-32C of the sum
// of the line before and of these 28 octets, so that no line can be changed,
// taken out or moved without being seen.
type line struct {
	kind byte
	key  [17]byte
	sum  uint32
	turn uint64
}

func (l *line) number() uint64     { return binary.LittleEndian.Uint64(l.key[1:]) }
func (l *line) setNumber(n uint64) { binary.LittleEndian.PutUint64(l.key[1:], n) }

func (l *line) appendTo(b []byte) []byte {
	b = append(append(b, l.kind), l.key[:]...)
	b = binary.LittleEndian.AppendUint32(b, l.sum)
	for i := range 6 {
		b = append(b, byte(l.turn>>(8*i)))
	}
	return append(b, 0, 0, 0, 0)
}

// link fills in the chained sums of whole lines.
func link(b []byte, chain uint32) uint32 {
	for ; len(b) > 0; b = b[lineSize:] {
		chain = linked(b, chain)
		binary.LittleEndian.PutUint32(b[lineSize-4:], chain)
	}
	return chain
}

func linked(b []byte, chain uint32) uint32 {
	return crc32.Update(chain, castagnoli, b[:lineSize-4])
}

func parseLine(b []byte) (l line) {
	l.kind = b[0]
	copy(l.key[:], b[1:])
	l.sum = binary.LittleEndian.Uint32(b[18:])
	for i := range 6 {
		l.turn |= uint64(b[22+i]) << (8 * i)
	}
	return l
}

// sumOf returns the checksum that a sealed value ends with.
func sumOf(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(v[len(v)-4:])
}

// inLedger returns the key as lines have it; false: the ledger does not know
// such keys.
func inLedger(k []byte) (key [17]byte, ok bool) {
	if len(k) != len(key) || k[0] != messageKey && k[0] != corruptKey {
		return key, false
	}
	return [17]byte(k), true
}

// linesOf returns what a batch changes, and whether it leaves no trace of a
// message that it takes away.
func linesOf(b *lib.Batch) (list []line, traceless bool, err error) {
	left, traces := 0, 0
	for r := b.Reader(); ; {
		kind, k, v, ok, err := r.Next()
		if err != nil || !ok {
			return list, traceless || left > traces, err
		}
		key, known := inLedger(k)
		switch {
		case kind == lib.InternalKeyKindSet && known:
			list = append(list, line{kind: thereLine, key: key, sum: sumOf(v)})
			if key[0] == corruptKey {
				traces++
			}
		case kind == lib.InternalKeyKindDelete && known:
			list = append(list, line{kind: leftLine, key: key})
			left++
		case kind == lib.InternalKeyKindSet && k[0] == lifeKey:
			traces++
		case kind == lib.InternalKeyKindRangeDelete && k[0] == lifeKey:
			traceless = true
		}
	}
}

// A passage is a batch on its way through the ledger.
type passage struct {
	turn  uint64 // 0: it changes nothing that the ledger knows, and is not synced
	low   uint64 // all batches before it were with the library when it was entered
	lines uint32
}

// enter writes down what a batch is about to change. What leaves no trace
// behind is stable here before it is done there, or it would seem lost.
func (l *ledger) enter(b *lib.Batch, sync bool) (p passage, err error) {
	list, traceless, err := linesOf(b)
	if err != nil || len(list) == 0 && !traceless && !sync {
		return p, err
	}
	l.mu.Lock()
	l.turn++
	p = passage{turn: l.turn, low: l.first, lines: uint32(len(list))}
	l.flying = append(l.flying, flight{})
	for _, line := range list {
		line.turn = p.turn
		l.lines = line.appendTo(l.lines)
	}
	l.mu.Unlock()
	if traceless {
		return p, l.sync()
	}
	return p, nil
}

// leave ends a passage. stable: the batch is on the disk, which is written down
// before anybody hears of it.
func (l *ledger) leave(p passage, stable bool) error {
	if p.turn == 0 {
		return nil
	}
	l.mu.Lock()
	l.flying[p.turn-l.first].ended = true
	n := 0
	for n < len(l.flying) && l.flying[n].ended {
		n++
	}
	l.flying, l.first = l.flying[n:], l.first+uint64(n)
	if !stable {
		l.mu.Unlock()
		return nil
	}
	ack := line{kind: ackLine, turn: p.turn, sum: p.lines}
	ack.setNumber(p.low)
	l.lines = ack.appendTo(l.lines)
	l.mu.Unlock()
	return l.flush()
}

// flush writes what was entered, also by others: who comes first writes for
// those who wait behind.
func (l *ledger) flush() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.write()
}

func (l *ledger) write() error {
	l.mu.Lock()
	b := l.lines
	l.lines = l.spare[:0]
	l.mu.Unlock()
	l.spare = b
	if len(b) == 0 {
		return nil
	}
	l.chain = link(b, l.chain)
	for l.ready < l.size+int64(len(b)) {
		if _, err := l.file.WriteAt(make([]byte, ledgerStep), l.ready); err != nil {
			return err
		}
		l.ready += ledgerStep
	}
	_, err := l.file.WriteAt(b, l.size)
	l.size += int64(len(b))
	return err
}

// sync makes all that was entered stable.
func (l *ledger) sync() error {
	l.writing.Lock()
	err := l.write()
	if err == nil && l.size > l.rewrite {
		err = l.shorten()
	}
	l.writing.Unlock()
	if err != nil {
		return err
	}
	l.syncing.RLock()
	defer l.syncing.RUnlock()
	return l.file.SyncData()
}

// shorten writes the file anew without what came and left. The caller holds
// writing.
func (l *ledger) shorten() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	a, err := readLedger(l.fence, l.path)
	if err != nil {
		return err
	}
	was := l.file
	b, err := create(l.fence, l.path, l.id, func(add func(line)) error { a.balance(add); return nil }, a.pending)
	if err != nil {
		return err
	}
	l.take(b)
	return was.Close()
}

// read returns what the ledger says now.
func (l *ledger) read() (*account, error) {
	l.writing.Lock() // it is not written anew meanwhile
	defer l.writing.Unlock()
	if err := l.write(); err != nil {
		return nil, err
	}
	return readLedger(l.fence, l.path)
}

// close says that the store is closed, if it was in peace.
func (l *ledger) close(peace bool) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	var err error
	if peace {
		l.mu.Lock()
		end := line{kind: closedLine}
		l.lines = end.appendTo(l.lines)
		l.mu.Unlock()
		if err = l.write(); err == nil {
			err = l.file.Sync()
		}
	}
	return errors.Join(err, l.file.Close())
}

// openLedger makes the ledger of a store that was found as it should be, from
// what it has.
func openLedger(f *fence, dir string, id [16]byte, r lib.Reader) (*ledger, error) {
	l := &ledger{fence: f, path: f.PathJoin(dir, ledgerName), id: id, first: 1}
	b, err := create(f, l.path, id, func(add func(line)) error { return present(r, add) }, nil)
	if err != nil {
		return nil, err
	}
	l.take(b)
	return l, nil
}

// take goes on with a file that was just made.
func (l *ledger) take(b *ledger) {
	l.file, l.chain, l.size, l.ready = b.file, b.chain, b.size, b.size
	l.rewrite = max(leastRewrite, 2*l.size)
}

// present calls add for each key of the store that a ledger knows.
func present(r lib.Reader, add func(line)) (err error) {
	for _, prefix := range []byte{messageKey, corruptKey} {
		err = errors.Join(err, scan(r, prefix, nil, func(k, v []byte) (bool, error) {
			if key, ok := inLedger(k); ok {
				add(line{kind: thereLine, key: key, sum: sumOf(v)})
			}
			return true, nil
		}))
	}
	return err
}

// create makes a ledger file in the place of the one that is there: what is
// there is whole and stable before it has the name.
func create(f vfs.FS, path string, id [16]byte, fill func(add func(line)) error, pending []line) (_ *ledger, err error) {
	temp := path + ".new"
	file, err := f.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	l := &ledger{file: file}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), f.Remove(temp))
		}
	}()
	b := make([]byte, 0, 64<<10)
	spill := func() {
		if err == nil {
			l.chain = link(b, l.chain)
			l.size += int64(len(b))
			_, err = file.Write(b)
		}
		b = b[:0]
	}
	head := line{kind: headLine, sum: ledgerVersion}
	copy(head.key[1:], id[:])
	b = head.appendTo(b)
	n := uint64(0)
	errFill := fill(func(l line) {
		n++
		if b = l.appendTo(b); len(b) >= 60<<10 {
			spill()
		}
	})
	end := line{kind: wholeLine}
	end.setNumber(n)
	b = end.appendTo(b)
	for i := range pending {
		b = pending[i].appendTo(b)
	}
	spill()
	if err = errors.Join(errFill, err); err != nil {
		return nil, err
	}
	if err = file.Sync(); err != nil {
		return nil, err
	}
	if err = f.Rename(temp, path); err != nil {
		return nil, err
	}
	return l, syncFolder(f, f.PathDir(path))
}

const ledgerVersion = 1

// An account is a ledger that was read.
type account struct {
	id     [16]byte
	items  map[[17]byte]*item
	acked  map[uint64]bool
	low    uint64 // all turns before it are stable
	closed bool
	faults []string // places where the file is not what was written
	// pending are the lines of changes that are not acknowledged.
	pending []line
}

// An item is what is known of one key, in order.
type item struct {
	ops  []line
	seen bool
}

// readLedger reads a ledger to its end; fs.ErrNotExist: there is none.
func readLedger(f vfs.FS, path string) (a *account, err error) {
	file, err := f.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	a = &account{items: map[[17]byte]*item{}, acked: map[uint64]bool{}}
	p := &reading{account: a, entered: map[uint64]bool{}}
	in := bufio.NewReaderSize(file, 256<<10)
	var b [lineSize]byte
	for at := int64(0); ; at += lineSize {
		n, err := io.ReadFull(in, b[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if n > 0 {
				p.lost(at)
			}
			break
		}
		if err != nil {
			return nil, err
		}
		p.line(b[:], at)
	}
	p.end(path)
	a.settle()
	return a, nil
}

// A reading knows what of a ledger cannot be explained by a crash: a place that
// is no line, and behind it a line that says that the place was stable.
type reading struct {
	*account
	chain   uint32
	holes   []int64 // places of what is no line
	blank   int64   // so many lines before are zeros
	started bool
	whole   bool
	n       uint64 // lines of what was there at first
	entered map[uint64]bool
	proven  int // so many of the holes are damage
}

func (p *reading) lost(at int64) { p.holes = append(p.holes, at) }

func (p *reading) line(b []byte, at int64) {
	good := linked(b, p.chain) == binary.LittleEndian.Uint32(b[lineSize-4:])
	p.chain = binary.LittleEndian.Uint32(b[lineSize-4:])
	if zero(b) {
		p.blank++ // written ahead, if no line follows
		return
	}
	if p.blank > 0 {
		p.lost(at - p.blank*lineSize)
		p.blank = 0
	}
	if !good {
		p.lost(at)
		return
	}
	l := parseLine(b)
	switch l.kind {
	case headLine:
		p.started = l.sum == ledgerVersion && at == 0
		copy(p.id[:], l.key[1:])
	case wholeLine:
		p.whole = p.started && len(p.holes) == 0 && l.number() == p.n
		p.proven = len(p.holes)
	case thereLine, leftLine:
		p.n++
		i := p.items[l.key]
		if i == nil {
			i = &item{}
			p.items[l.key] = i
		}
		i.ops = append(i.ops, l)
		if l.turn > 0 {
			p.entered[l.turn] = true
		}
	case ackLine:
		// The file was stable up to the line of this batch. If that is not among
		// those read, it was in a hole.
		if l.sum > 0 && !p.entered[l.turn] {
			p.proven = len(p.holes)
		}
		p.acked[l.turn] = true
		p.low = max(p.low, l.number())
	case closedLine:
		p.closed = true
		p.proven = len(p.holes)
	}
	if l.kind != closedLine {
		p.closed = false
	}
}

func (p *reading) end(path string) {
	if !p.whole && p.proven == 0 {
		p.proven = len(p.holes)
	}
	for _, at := range p.holes[:p.proven] {
		p.faults = append(p.faults, place(path, at)+" is not what was written")
	}
	if !p.whole && len(p.faults) == 0 {
		p.faults = append(p.faults, path+" ends too early")
	}
	if len(p.faults) > 0 {
		p.closed = false
	}
}

// stable reports whether a line's change was on the disk.
func (a *account) stable(l *line) bool {
	return l.turn == 0 || l.turn < a.low || a.acked[l.turn] || a.closed
}

// settle collects what is not acknowledged.
func (a *account) settle() {
	for _, i := range a.items {
		for j := range i.ops {
			if !a.stable(&i.ops[j]) {
				a.pending = append(a.pending, i.ops[j])
			}
		}
	}
}

// last returns the last stable change of an item, and those that came after it.
func (a *account) last(i *item) (last *line, later []line) {
	for j := len(i.ops) - 1; j >= 0; j-- {
		if a.stable(&i.ops[j]) {
			return &i.ops[j], i.ops[j+1:]
		}
	}
	return nil, i.ops
}

// balance calls add for each key that is surely there.
func (a *account) balance(add func(line)) {
	for _, i := range a.items {
		if l, _ := a.last(i); l != nil && l.kind == thereLine {
			there := *l
			there.turn = 0
			add(there)
		}
	}
}

// ids returns the messages that must be there, and those that may be.
func (a *account) ids() (list []key) {
	for k, i := range a.items {
		l, later := a.last(i)
		there := l != nil && l.kind == thereLine
		for j := range later {
			there = there || later[j].kind == thereLine
		}
		if there && k[0] == messageKey {
			list = append(list, key(k[1:]))
		}
	}
	return list
}

// holds reports whether a message is not known to have left, or to be leaving.
func (a *account) holds(k key) bool {
	i := a.items[[17]byte(k.at(messageKey))]
	return i != nil && i.ops[len(i.ops)-1].kind == thereLine
}

// A balance is how a store differs from its ledger, by ids.
type balance struct {
	missing []string // were acknowledged, and are not there
	stale   []string // are there in a form that they had before
	unsure  []string // were coming in, and are not there
}

// compare lays the ledger beside what the store has.
func (a *account) compare(r lib.Reader) (b balance, err error) {
	for _, i := range a.items {
		i.seen = false
	}
	err = present(r, func(found line) {
		i := a.items[found.key]
		if i != nil {
			i.seen = true
		}
		if i == nil && a.closed || i != nil && a.older(i, found.sum) {
			b.stale = append(b.stale, string(found.key[1:]))
		}
	})
	if err != nil {
		return b, err
	}
	for k, i := range a.items {
		if i.seen {
			continue
		}
		to := a.absent(i)
		if to == nil {
			continue
		}
		traced := false
		for _, prefix := range []byte{lifeKey, corruptKey, messageKey} {
			_, closer, err := getFrom(r, key(k[1:]).at(prefix))
			if err == nil {
				traced = true
				err = closer.Close()
			}
			if err != nil && !errors.Is(err, lib.ErrNotFound) {
				return b, err
			}
		}
		if !traced {
			*to(&b) = append(*to(&b), string(k[1:]))
		}
	}
	return b, nil
}

// older reports whether a value of this sum is one that was replaced.
func (a *account) older(i *item, sum uint32) bool {
	last, later := a.last(i)
	if last == nil || last.kind == thereLine && last.sum == sum {
		return false
	}
	for _, l := range later {
		if l.kind == thereLine && l.sum == sum {
			return false
		}
	}
	if a.closed || last.kind == leftLine && len(later) == 0 {
		return true
	}
	for j := range i.ops {
		if l := &i.ops[j]; l == last {
			break
		} else if l.kind == thereLine && l.sum == sum {
			return true
		}
	}
	return false
}

// absent returns what it means that an item is not there; nil: nothing.
func (a *account) absent(i *item) func(*balance) *[]string {
	last, later := a.last(i)
	for j := range later {
		if later[j].kind == leftLine {
			return nil
		}
	}
	switch {
	case last == nil:
		return func(b *balance) *[]string { return &b.unsure }
	case last.kind == thereLine:
		return func(b *balance) *[]string { return &b.missing }
	}
	return nil
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
