package machine

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"syscall"
)

// Means are what a process may take of its machine.
type Means struct {
	Memory      int64 // octets; 0: nobody says
	Group       bool  // a control group says so, and not the machine
	Descriptors int   // at once; 0: nobody says
}

// MeansHere returns those of this process.
func MeansHere(root fs.FS) Means {
	m := memory(root)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		m.Descriptors = int(min(limit.Cur, math.MaxInt32))
	}
	return m
}

// memory is the least that the machine and the control groups above this
// process allow (cgroups(7)).
func memory(root fs.FS) (m Means) {
	for line := range strings.Lines(string(text(root, "proc/meminfo"))) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			m.Memory = n << 10
		}
	}
	for line := range strings.Lines(string(text(root, "proc/self/cgroup"))) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		dir, file := "sys/fs/cgroup", "memory.max"
		if controllers != "" {
			if !strings.Contains(","+controllers+",", ",memory,") {
				continue
			}
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// In a container the group may be its root, whatever its name outside.
		for at := path.Clean("/" + group); ; at = path.Dir(at) {
			n, err := strconv.ParseInt(strings.TrimSpace(string(text(root, path.Join(dir, at, file)))), 10, 64)
			if err == nil && n > 0 && (m.Memory == 0 || n < m.Memory) {
				m.Memory, m.Group = n, true
			}
			if at == "/" {
				break
			}
		}
	}
	return m
}
