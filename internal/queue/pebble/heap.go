package pebble

// A placed value knows where it lies in its heap, so that it can be moved or
// taken out; before orders it.
type placed[T any] interface {
	comparable
	before(T) bool
	place(at int)
}

// A heap gives its first value at once. The zero heap is empty.
type heap[T placed[T]] struct{ list []T }

func (h *heap[T]) top() (first T, ok bool) {
	if len(h.list) == 0 {
		return first, false
	}
	return h.list[0], true
}

func (h *heap[T]) push(v T) {
	h.list = append(h.list, v)
	v.place(len(h.list) - 1)
	h.up(len(h.list) - 1)
}

// remove takes out what lies at i. The place that it knows is no longer true.
func (h *heap[T]) remove(i int) {
	last := len(h.list) - 1
	h.swap(i, last)
	var none T
	h.list[last] = none
	h.list = h.list[:last]
	if cap(h.list) > 64 && len(h.list) < cap(h.list)/4 {
		h.list = append(make([]T, 0, cap(h.list)/2), h.list...)
	}
	if i < last {
		h.fix(i)
	}
}

// fix puts what lies at i where it belongs after it changed.
func (h *heap[T]) fix(i int) {
	h.up(i)
	h.down(i)
}

func (h *heap[T]) swap(i, j int) {
	if i != j {
		h.list[i], h.list[j] = h.list[j], h.list[i]
		h.list[i].place(i)
		h.list[j].place(j)
	}
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		above := (i - 1) / 2
		if !h.list[i].before(h.list[above]) {
			return
		}
		h.swap(i, above)
		i = above
	}
}

func (h *heap[T]) down(i int) {
	for {
		least := i
		for _, below := range [2]int{2*i + 1, 2*i + 2} {
			if below < len(h.list) && h.list[below].before(h.list[least]) {
				least = below
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

// A ring is a line in which each waits for its turn.
type ring[T any] struct {
	list []T
	head int
}

func (r *ring[T]) len() int { return len(r.list) - r.head }

func (r *ring[T]) push(v T) { r.list = append(r.list, v) }

func (r *ring[T]) pop() (v T, ok bool) {
	if r.len() == 0 {
		return v, false
	}
	var none T
	v, r.list[r.head] = r.list[r.head], none
	r.head++
	if r.head > 32 && r.head > len(r.list)/2 {
		r.list = append(r.list[:0], r.list[r.head:]...)
		r.head = 0
	}
	return v, true
}
