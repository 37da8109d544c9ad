package machine

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
)

// container names what this process runs in, by what each kind leaves behind.
func container(root fs.FS) string {
	environment := func(name, key string) (string, bool) {
		for entry := range bytes.SplitSeq(text(root, name), []byte{0}) {
			if value, ok := strings.CutPrefix(string(entry), key+"="); ok {
				return value, true
			}
		}
		return "", false
	}
	// A pod's container has the marks of the engine below it as well.
	if _, ok := environment("proc/self/environ", "KUBERNETES_SERVICE_HOST"); ok {
		return "kubernetes"
	}
	kind := cgroup(text(root, "proc/self/cgroup"))
	switch {
	case kind == "kubernetes":
		return kind
	case exists(root, ".dockerenv"):
		return "docker"
	case exists(root, "run/.containerenv"):
		return "podman"
	case kind != "":
		return kind
	}
	// The first process's environment: systemd-nspawn, LXC and podman set it.
	if name, ok := environment("proc/1/environ", "container"); ok && name != "" {
		return printable(name)
	}
	return ""
}

// cgroup tells a container by the folder that its engine made for it. A folder
// of the engine's own service (docker.service) is none.
func cgroup(b []byte) string {
	for line := range bytes.Lines(b) {
		_, path, _ := strings.Cut(strings.TrimSpace(string(line)), "::")
		if path == "" { // version 1: number:controllers:path
			if parts := strings.SplitN(strings.TrimSpace(string(line)), ":", 3); len(parts) == 3 {
				path = parts[2]
			}
		}
		for folder := range strings.SplitSeq(path, "/") {
			switch {
			case strings.HasPrefix(folder, "kubepods"), strings.HasPrefix(folder, "cri-containerd-"):
				return "kubernetes"
			case folder == "docker", strings.HasPrefix(folder, "docker-") && strings.HasSuffix(folder, ".scope"):
				return "docker"
			case strings.HasPrefix(folder, "libpod-"):
				return "podman"
			case folder == "lxc", strings.HasPrefix(folder, "lxc.payload"):
				return "lxc"
			}
		}
	}
	return ""
}

// printable keeps a name that another program chose to letters that harm no
// terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 40)]
}

// known programs that take a connection themselves and make a second one to
// its goal, which then sees the program's address.
var known = []string{"docker-proxy", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "pasta.avx2", "rinetd", "redir", "socat"}

// forwarders returns which of them run here.
func forwarders(root fs.FS) []string {
	var list []string
	for pid := range processes(root) {
		if name := comm(root, pid); slices.Contains(known, name) && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}
