package machine

import (
	"testing"
	"testing/fstest"
)

func TestMemory(t *testing.T) {
	const mem = "MemTotal:        8000000 kB\nMemFree:  100 kB\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Means
	}{
		{"nobody says", nil, Means{}},
		{"the machine", map[string]string{"proc/meminfo": mem}, Means{Memory: 8000000 << 10}},
		{"a group of version 2", map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "0::/system.slice/postern.service\n", "sys/fs/cgroup/system.slice/postern.service/memory.max": "268435456\n"}, Means{Memory: 256 << 20, Group: true}},
		{"a group without a limit", map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, Means{Memory: 8000000 << 10}},
		{"one above it is narrower", map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1073741824\n", "sys/fs/cgroup/a/memory.max": "536870912\n"}, Means{Memory: 512 << 20, Group: true}},
		{"a container, whose group is its root", map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "0::/../elsewhere\n", "sys/fs/cgroup/memory.max": "268435456\n"}, Means{Memory: 256 << 20, Group: true}},
		{"a group of version 1", map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "5:cpu,memory:/docker/1\n4:pids:/x\n", "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "268435456\n"}, Means{Memory: 256 << 20, Group: true}},
		{"version 1 without a limit", map[string]string{"proc/meminfo": mem, "proc/self/cgroup": "5:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, Means{Memory: 8000000 << 10}},
		{"words that are none", map[string]string{"proc/meminfo": "MemTotal: many kB\n", "proc/self/cgroup": "x\n0::\n", "sys/fs/cgroup/memory.max": "-1\n"}, Means{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := memory(root); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
