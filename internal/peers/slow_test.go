package peers

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowWire joins tester and target by a second wire, on which each packet
// travels for delay, and returns the target's address there. The wire is ours
// because not every kernel has netem: a TUN device at each end, and between
// them a program that holds packets back.
func slowWire(t *testing.T, target *Target, delay time.Duration) string {
	t.Helper()
	name := fmt.Sprintf("slow%d", delay.Milliseconds())
	net := fmt.Sprintf("10.78.%d.", delay.Milliseconds())
	ends := make([]*os.File, 2)
	for i, w := range []*world{target.tester, target.target} {
		if err := w.within(func() (err error) { ends[i], err = tun(name); return err }); err != nil {
			t.Fatal(err)
		}
		target.ip(t, w, fmt.Sprintf("addr add %s%d/24 dev %s\nlink set %s up\n", net, 2-i, name, name))
	}
	done := make(chan struct{}, 2)
	go func() { carry(ends[1], ends[0], delay); done <- struct{}{} }()
	go func() { carry(ends[0], ends[1], delay); done <- struct{}{} }()
	t.Cleanup(func() {
		ends[0].Close()
		ends[1].Close()
		<-done
		<-done
	})
	return net + "1"
}

// tun makes a TUN device in the network of the calling thread; it goes with
// the file.
func tun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	// Only now: a file that is not yet a device cannot be waited for.
	return os.NewFile(uintptr(fd), name), nil
}

// carry hands on each packet when its time has come, until an end is closed.
func carry(to, from *os.File, delay time.Duration) {
	type packet struct {
		due  time.Time
		data []byte
	}
	way := make(chan packet, 4096)
	go func() {
		defer close(way)
		for {
			b := make([]byte, 2048) // more than the 1500 octets of the device
			n, err := from.Read(b)
			if err != nil {
				return
			}
			way <- packet{time.Now().Add(delay), b[:n]}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		_, _ = to.Write(p.data) // the far end may be gone, as on any wire
	}
}
