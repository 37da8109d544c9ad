package deliver

import (
	"testing"
	"time"
)

// Attempts that are refused together, because there are too many of them, slow
// a destination down once; the next one that is refused does it again.
func TestRefusedTogetherIsOneWord(t *testing.T) {
	d := &destination{most: 20, limit: 8}
	start := time.Unix(1000, 0)
	for i := range 8 {
		d.heard(busy, "", start, start.Add(time.Duration(1+i)*time.Millisecond))
	}
	if d.limit != 4 || d.gap != leastGap {
		t.Errorf("limit %d, gap %v; want 4, %v", d.limit, d.gap, leastGap)
	}
	d.heard(busy, "", start.Add(time.Second), start.Add(2*time.Second))
	if d.limit != 2 || d.gap != 2*leastGap {
		t.Errorf("limit %d, gap %v; want 2, %v", d.limit, d.gap, 2*leastGap)
	}
}
