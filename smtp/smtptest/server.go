package smtptest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/mailblocks/mailblocks/smtp"
)

// Message is a message that a Server took.
type Message struct {
	Hello, Identity string // what the client called itself, and who it authenticated as
	TLS             bool
	From            string
	Params          smtp.MailParams
	To              []smtp.Recipient
	Data            []byte // lines end in CRLF
}

// Server is an SMTP server on loopback that accepts every message and keeps it.
type Server struct {
	// Addr is the address to dial, "127.0.0.1:port".
	Addr string

	srv *smtp.Server

	mu       sync.Mutex
	messages []Message
	arrived  chan struct{} // closed, and made anew, with each message
}

// NewServer starts a Server and stops it when the test ends. The functions may change
// the smtp.Server before it serves: its TLS, its limits; a Handler they set is asked
// before the message is kept.
func NewServer(t testing.TB, configure ...func(*smtp.Server)) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("smtptest: %v", err)
	}
	s := &Server{Addr: l.Addr().String(), arrived: make(chan struct{})}
	srv := &smtp.Server{Handler: smtp.HandlerFunc(drop), Hostname: "mx.test", Logger: slog.New(slog.DiscardHandler)}
	for _, f := range configure {
		f(srv)
	}
	srv.Handler = keeper{smtp.Pass{Handler: srv.Handler}, s}
	s.srv = srv
	s.ServeAlso(t, l)
	return s
}

// ServeAlso takes messages from another listener, too: one with TLS, a Unix socket.
func (s *Server) ServeAlso(t testing.TB, l net.Listener) {
	done := make(chan error, 1)
	go func() { done <- s.srv.Serve(l) }()
	t.Cleanup(func() {
		s.srv.Close()
		if err := <-done; !errors.Is(err, smtp.ErrServerClosed) {
			t.Errorf("smtptest: Serve: %v", err)
		}
	})
}

// Messages returns the messages taken so far, in order.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Wait returns the messages once there are n or more, or fails the test when ctx ends first.
func (s *Server) Wait(ctx context.Context, t testing.TB, n int) []Message {
	t.Helper()
	for {
		s.mu.Lock()
		have, arrived := slices.Clone(s.messages), s.arrived
		s.mu.Unlock()
		if len(have) >= n {
			return have
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			t.Fatalf("smtptest: %d messages of %d: %v", len(have), n, context.Cause(ctx))
		}
	}
}

func drop(_ context.Context, _ *smtp.Transaction, body smtp.Body) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// keeper is the middleware that keeps what the Handler accepts.
type keeper struct {
	smtp.Pass
	s *Server
}

func (k keeper) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	var data bytes.Buffer
	reply, err := k.Pass.Data(ctx, tx, io.TeeReader(body, &data))
	if err != nil {
		return reply, err
	}
	if _, err := io.Copy(&data, body); err != nil { // what the Handler left
		return nil, err
	}
	m := Message{Hello: tx.Session.Hello, Identity: tx.Session.Identity, TLS: tx.Session.TLS != nil,
		From: tx.From, Params: tx.Params, Data: data.Bytes()}
	m.Params.Other = slices.Clone(m.Params.Other)
	for _, r := range tx.Recipients {
		m.To = append(m.To, *r)
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.messages = append(k.s.messages, m)
	close(k.s.arrived)
	k.s.arrived = make(chan struct{})
	return reply, nil
}
