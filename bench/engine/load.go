package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// The pipelining client: 50 connections, MAIL, RCPT and DATA in one write, the
// message and the next group in the next.
const (
	loadSessions = 50
	loadOctets   = 4096
)

// load sends messages over loadSessions connections.
func load(ctx context.Context, address, messages string) error {
	var n int
	if _, err := fmt.Sscan(messages, &n); err != nil {
		return err
	}
	var all sync.WaitGroup
	failures := make(chan error, loadSessions)
	for range loadSessions {
		all.Go(func() { failures <- session(ctx, address, n/loadSessions) })
	}
	all.Wait()
	for range loadSessions {
		if err := <-failures; err != nil {
			return err
		}
	}
	return nil
}

func session(ctx context.Context, address string, n int) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	const envelope = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
	line := strings.Repeat("x", 76) + "\r\n"
	message := strings.Repeat(line, loadOctets/len(line)) + ".\r\n"
	if err := replies(r, "220"); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "EHLO c.example\r\n"); err != nil {
		return err
	}
	if err := replies(r, "250"); err != nil {
		return err
	}
	next := envelope
	for i := range n {
		if _, err := io.WriteString(c, next); err != nil {
			return err
		}
		want := []string{"250", "250", "250", "354"}
		if i == 0 {
			want = want[1:]
		}
		if err := replies(r, want...); err != nil {
			return err
		}
		next = message + envelope
	}
	if _, err := io.WriteString(c, message+"QUIT\r\n"); err != nil {
		return err
	}
	return replies(r, "250", "221")
}

func replies(r *bufio.Reader, codes ...string) error {
	for _, code := range codes {
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if len(line) < 4 || string(line[:3]) != code {
				return fmt.Errorf("reply %q, want %s", line, code)
			}
			if line[3] == ' ' {
				break
			}
		}
	}
	return nil
}
