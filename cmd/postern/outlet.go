package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// An outlet is where a program that must go on writes what it has to say. Who
// reads that may be slow, asleep or gone: nobody who writes waits for it. What
// does not fit into a bounded buffer meanwhile is dropped and counted.
type outlet struct {
	to   io.Writer
	gap  func(lines int) []byte // says in a line of the log how many are missing
	more chan struct{}

	mu      sync.Mutex
	waiting [][]byte
	size    int       // octets that wait
	writing time.Time // since when a line is being written; zero: none is
	missing int       // lines dropped since the last that was written
	lost    int       // all of them
	err     error     // of the last write
	idle    chan struct{}
}

// mostWaiting is what an outlet keeps for a reader that sleeps: some thousands
// of lines.
const mostWaiting = 1 << 20

func newOutlet(to io.Writer, gap func(lines int) []byte) *outlet {
	o := &outlet{to: to, gap: gap, more: make(chan struct{}, 1), idle: make(chan struct{})}
	close(o.idle)
	go o.run() // as long as the process: nobody could wait for a write that hangs
	return o
}

// Write takes one line and never fails.
func (o *outlet) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size+len(line) > mostWaiting {
		o.missing++
		o.lost++
		return len(line), nil
	}
	if len(o.waiting) == 0 && o.writing.IsZero() {
		o.idle = make(chan struct{})
	}
	o.waiting = append(o.waiting, append([]byte(nil), line...))
	o.size += len(line)
	select {
	case o.more <- struct{}{}:
	default:
	}
	return len(line), nil
}

func (o *outlet) run() {
	for range o.more {
		for {
			line, missing := o.next()
			if line == nil {
				break
			}
			var err error
			if missing > 0 && o.gap != nil {
				_, err = o.to.Write(o.gap(missing))
			}
			if err == nil {
				_, err = o.to.Write(line)
			}
			o.wrote(line, missing, err)
		}
	}
}

func (o *outlet) next() (line []byte, missing int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		return nil, 0
	}
	line, missing = o.waiting[0], o.missing
	o.waiting[0], o.waiting, o.missing = nil, o.waiting[1:], 0
	o.writing = time.Now()
	return line, missing
}

func (o *outlet) wrote(line []byte, missing int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(line)
	o.writing, o.err = time.Time{}, err
	if err != nil {
		o.lost++
		o.missing += missing + 1
	}
	if len(o.waiting) == 0 {
		close(o.idle)
	}
}

// slowReader is how long a line may take before its reader counts as asleep.
const slowReader = 5 * time.Second

// ails says what is wrong with the reader, "" for nothing.
func (o *outlet) ails() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(o.err, syscall.EPIPE):
		return fmt.Sprintf("the reader of the log is gone; lines lost: %d", o.lost)
	case o.err != nil:
		return fmt.Sprintf("the log cannot be written (%v); lines lost: %d", o.err, o.lost)
	case !o.writing.IsZero() && time.Since(o.writing) > slowReader:
		return fmt.Sprintf("the reader of the log has been asleep for %v; lines lost: %d", time.Since(o.writing).Round(time.Second), o.lost)
	}
	return ""
}

// flushPatience is for a reader that is awake.
const flushPatience = time.Second

// flush waits until all is written, but not for a reader that sleeps.
func (o *outlet) flush() {
	o.mu.Lock()
	idle := o.idle
	o.mu.Unlock()
	t := time.NewTimer(flushPatience)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	}
}
