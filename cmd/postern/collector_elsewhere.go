package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"postern/collect"
	"postern/internal/plaintext"
	"postern/internal/resolve"
	"postern/mail"
)

// startRemote uses a `postern collect` on another machine.
func (f *collectorFlags) startRemote(ctx context.Context, r *resolve.Resolver) (*source, error) {
	if f.secret == "" {
		return nil, usage("--collector-url needs the secret that the collector shares with us: --collector-secret FILE")
	}
	secret, err := readSecret(f.secret)
	if err != nil {
		return nil, err
	}
	config := collect.RemoteConfig{URL: f.url, Secret: secret}
	if r != nil {
		config.Resolver = r
	}
	remote, err := collect.NewRemote(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("--collector-url %s: %w", f.url, err)
	}
	s := &source{collector: remote, lasting: true, stop: func() { _ = remote.Close() }}
	about := remote.About()
	if len(about.Addresses) > 0 {
		s.address = about.Addresses[0]
	}
	if zone, err := mail.ParseDomain(about.Zone); err == nil {
		s.backup = backupIn(zone)
		s.oneFamily = func(six bool) mail.Domain { return collect.OneFamily(zone, about.Addresses, six) }
	}
	return s, nil
}

// startMailbox uses an IMAP mailbox that somebody else keeps.
func (f *collectorFlags) startMailbox(ctx context.Context, r *resolve.Resolver) (*source, error) {
	if f.imapUser == "" || f.imapSecret == "" || f.mailbox == "" {
		return nil, usage("--imap needs --imap-user NAME, --imap-password FILE and --imap-address ADDRESS")
	}
	address, err := mail.ParseAddress(f.mailbox)
	if err != nil {
		return nil, usage("--imap-address: %w", err)
	}
	password, err := readSecret(f.imapSecret)
	if err != nil {
		return nil, err
	}
	server := f.imap
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "993")
	}
	config := collect.MailboxConfig{
		Server: server, User: f.imapUser, Password: password, Address: address, Fixed: f.imapFixed,
		Failed: func(err error) { complain(err) },
	}
	if r != nil {
		config.Resolver = r
	}
	box, err := collect.NewMailbox(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { complain(box.Run(ctx)) })
	return &source{collector: box, stop: func() { cancel(); wg.Wait() }}, nil
}

// readSecret reads a secret from a file, so that it stands in no argument.
func readSecret(file string) (string, error) {
	text, err := plaintext.ReadFile(file)
	if err != nil {
		return "", &exit{code: exitIO, err: err}
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", &exit{code: exitUsage, err: errors.New(file + " is empty; it should hold a secret")}
	}
	return secret, nil
}
