package identity

import "container/list"

// recent is a map with a bound: when it is full, what was touched longest ago
// makes room, unless keep holds it. It is not safe for concurrent use.
type recent[K comparable, V any] struct {
	limit   int
	keep    func(*V) bool // nil: nothing is held
	entries map[K]*list.Element
	order   *list.List // of *pair, touched last first
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](limit int, keep func(*V) bool) *recent[K, V] {
	return &recent[K, V]{limit: limit, keep: keep, entries: map[K]*list.Element{}, order: list.New()}
}

// at returns the value of a key for reading and writing, or nil.
func (r *recent[K, V]) at(k K) *V {
	e, ok := r.entries[k]
	if !ok {
		return nil
	}
	p, _ := e.Value.(*pair[K, V])
	return &p.value
}

// touch returns the value of a key, made if it is not there, as the youngest.
func (r *recent[K, V]) touch(k K) *V {
	if e, ok := r.entries[k]; ok {
		r.order.MoveToFront(e)
		return r.at(k)
	}
	for e := r.order.Back(); e != nil && len(r.entries) >= r.limit; {
		p, _ := e.Value.(*pair[K, V])
		before := e.Prev()
		if r.keep == nil || !r.keep(&p.value) {
			r.drop(p.key)
		}
		e = before
	}
	r.entries[k] = r.order.PushFront(&pair[K, V]{key: k})
	return r.at(k)
}

func (r *recent[K, V]) drop(k K) {
	if e, ok := r.entries[k]; ok {
		r.order.Remove(e)
		delete(r.entries, k)
	}
}
