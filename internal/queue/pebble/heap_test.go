package pebble

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type weight struct{ n, at int }

func (w *weight) before(o *weight) bool { return w.n < o.n }
func (w *weight) place(at int)          { w.at = at }

// Whatever is pushed, moved and removed, the least comes first, and each value
// knows its place.
func TestHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h heap[*weight]
		var all []*weight
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 3).Draw(t, "op"); {
			case op < 2 || len(all) == 0:
				w := &weight{n: rapid.IntRange(0, 50).Draw(t, "n")}
				h.push(w)
				all = append(all, w)
			case op == 2:
				i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				h.remove(all[i].at)
				all = slices.Delete(all, i, i+1)
			default:
				w := rapid.SampledFrom(all).Draw(t, "which")
				w.n = rapid.IntRange(0, 50).Draw(t, "n")
				h.fix(w.at)
			}
			least, ok := h.top()
			if ok != (len(all) > 0) || len(h.list) != len(all) {
				t.Fatalf("%d values, want %d", len(h.list), len(all))
			}
			for _, w := range all {
				if w.n < least.n || h.list[w.at] != w {
					t.Fatalf("first is %d; %d lies at %d", least.n, w.n, w.at)
				}
			}
		}
	})
}

func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring[int]
		pushed, popped := 0, 0
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "push") {
				r.push(pushed)
				pushed++
			} else if v, ok := r.pop(); ok != (popped < pushed) || ok && v != popped {
				t.Fatalf("got %d, %v; want %d", v, ok, popped)
			} else if ok {
				popped++
			}
			if r.len() != pushed-popped {
				t.Fatalf("%d wait, want %d", r.len(), pushed-popped)
			}
		}
	})
}
