package connect

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Frames that ask nothing end the connection, of whatever kind they are and
// however they are cut, before a login and after one.
func TestFramesThatAskNothing(t *testing.T) {
	const windowUpdate, priority, unknown = 8, 2, 0x7f
	open := frame(frameHeaders, endHeaders, 1, asks2...)
	for _, c := range []struct {
		name, before, frame string
		asked               bool
	}{
		{"SETTINGS", "", frame(frameSettings, 0, 0), false},
		{"SETTINGS with a word", "", frame(frameSettings, 0, 0, 0, 3, 0, 0, 0, 100), false},
		{"PING", "", frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), false},
		{"PRIORITY", "", frame(priority, 0, 1, 0, 0, 0, 3, 7), false},
		{"CONTINUATION without a field", frame(frameHeaders, 0, 1, asks2[:9]...), frame(frameContinuation, 0, 1), false},
		{"WINDOW_UPDATE", "", frame(windowUpdate, 0, 0, 0, 0, 0, 1), false},
		{"frames that nobody knows", "", frame(unknown, 0, 0, 1, 2, 3), false},
		{"DATA without an octet", open, frame(frameData, 0, 1), true},
		{"DATA of padding alone", open, frame(frameData, 8, 1, 3, 0, 0, 0), true},
		{"PING beside a tunnel", open, frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				h := &station{way: echo}
				done := served(t.Context(), &Server{Handler: h}, far)
				go func() { _, _ = io.Copy(io.Discard, near) }()
				_, err := io.WriteString(near, begins+c.before)
				sent := 0
				for piece := strings.Repeat(c.frame, 7); err == nil && sent < 50*calmFrames; sent += 7 {
					_, err = io.WriteString(near, piece[:5])
					if err == nil {
						_, err = io.WriteString(near, piece[5:])
					}
				}
				near.Close()
				if served := <-done; err == nil || c.asked != (served == nil) || !c.asked && !errors.Is(served, errRestless) {
					t.Errorf("%d frames: %v, served %v", sent, err, served)
				}
				if sent > 2*calmFrames {
					t.Errorf("ended after %d frames", sent)
				}
			})
		})
	}
}

// A client that is slow with them, and a tunnel that carries one octet a frame,
// go on.
func TestFramesThatCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		h := &station{way: echo}
		done := served(t.Context(), &Server{Handler: h}, far)
		go func() { _, _ = io.Copy(io.Discard, near) }()
		if _, err := io.WriteString(near, begins+frame(8, 0, 0, 0, 0x7f, 0, 0)+frame(frameHeaders, endHeaders, 1, asks2...)+frame(8, 0, 1, 0, 0x7f, 0, 0)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range 5 * calmFrames {
			if _, err := io.WriteString(near, frame(frameData, 0, 1, 'x')); err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		for i := range calmFrames {
			time.Sleep(calmEach)
			if _, err := io.WriteString(near, frame(framePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)); err != nil {
				t.Fatalf("PING %d: %v", i, err)
			}
		}
		near.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
