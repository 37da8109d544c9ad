package pebble

import "testing"

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		name         string
		all          int64
		table, cache int64
	}{
		{"nobody says how much there is", 0, 64 << 20, 32 << 20},
		{"a large machine", 8 << 30, 64 << 20, 32 << 20},
		{"as much as it takes at the most", 288 << 20, 64 << 20, 32 << 20},
		{"a small machine", 36 << 20, 8 << 20, 4 << 20},
		{"next to nothing", 1 << 20, 2 << 20, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, cache := memory(c.all)
			if int64(table) != c.table || cache != c.cache {
				t.Errorf("memory(%d) = %d, %d; want %d, %d", c.all, table, cache, c.table, c.cache)
			}
			if all := memTables*int64(table) + cache; c.all >= memTables*leastMemTable && all > c.all {
				t.Errorf("memory(%d) takes %d", c.all, all)
			}
		})
	}
}
