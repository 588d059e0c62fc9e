package relay_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"
	"github.com/mailblocks/mailblocks/queue/memstore"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/queue/spool"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

// accepting starts a server that enqueues, and gives a client of it.
func accepting(t *testing.T, h smtp.Handler) *smtp.Client {
	server := smtptest.NewServer(t, func(s *smtp.Server) {
		s.Handler = h
		s.Hostname = "mx.example.org"
		s.Extensions = smtp.DefaultExtensions | smtp.ExtDSN | smtp.ExtPriority | smtp.ExtFutureRelease | smtp.ExtDeliverBy
		s.Logger = slog.New(slog.DiscardHandler)
	})
	c, err := smtp.Dial(t.Context(), server.Addr, &smtp.ClientOptions{Hello: "client.test"})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func queued(t *testing.T, s queue.Store) []*queue.Entry {
	var all []*queue.Entry
	for e, err := range s.List(t.Context(), queue.Filter{}) {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

func TestHandler(t *testing.T) {
	store := memstore.New()
	defer store.Close()
	var told queue.ID
	c := accepting(t, &relay.Handler{
		Store: store,
		Change: func(_ context.Context, tx *smtp.Transaction, m *queue.Message) error {
			m.Tag = "from " + tx.Session.Hello
			return nil
		},
		Queued: func(_ context.Context, _ *smtp.Transaction, id queue.ID) { told = id },
	})
	hold := time.Now().Add(time.Hour).Truncate(time.Second)
	res, err := c.Send(t.Context(), &smtp.Envelope{
		From: "ann@example.org",
		Params: smtp.MailParams{
			EnvelopeID: "id 7", Return: smtp.ReturnFull, Body: smtp.Body8Bit, UTF8: true, Priority: -2, HoldUntil: hold,
			DeliverBy: smtp.DeliverBy{Seconds: 7200, Mode: 'R'},
		},
		To: []smtp.Recipient{
			{Address: "bob@example.net", Params: smtp.RcptParams{Notify: smtp.NotifyFailure, OriginalType: "rfc822", Original: "b@old.test"}},
			{Address: "cid@example.com"},
		},
	}, strings.NewReader(message))
	require.NoError(t, err)
	require.True(t, res.All())
	require.NotEmpty(t, told)
	assert.Equal(t, "queued as "+string(told), res.Data.Text)

	entries := queued(t, store)
	require.Len(t, entries, 1)
	e := entries[0].Envelope
	assert.Equal(t, "ann@example.org", e.ReversePath)
	assert.Equal(t, "id 7", e.EnvID)
	assert.Equal(t, queue.ReturnFull, e.Return)
	assert.Equal(t, queue.Body8BitMIME, e.Body)
	assert.True(t, e.UTF8)
	assert.EqualValues(t, -2, e.Priority)
	assert.True(t, e.HoldUntil.Equal(hold))
	assert.InDelta(t, 7200, time.Until(e.DeliverBy.Time).Seconds(), 60)
	assert.True(t, e.DeliverBy.Return)
	assert.Equal(t, "from client.test", e.Tag)
	require.Len(t, e.Recipients, 2)
	assert.Equal(t, "rfc822;b@old.test", e.Recipients[0].ORcpt)
	assert.Equal(t, queue.NotifyFailure, e.Recipients[0].Notify)
	assert.True(t, e.Recipients[1].Due.Equal(hold))

	r, err := store.Open(t.Context(), told)
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(text), "Received: from client.test "), string(text))
	assert.True(t, strings.HasSuffix(string(text), message))
}

func TestHandlerLoop(t *testing.T) {
	store := memstore.New()
	defer store.Close()
	c := accepting(t, &relay.Handler{Store: store, MaxReceived: 5})
	to := &smtp.Envelope{From: "a@b.test", To: []smtp.Recipient{{Address: "c@d.test"}}}
	res, err := c.Send(t.Context(), to, strings.NewReader(strings.Repeat("Received: x\r\n", 6)+message))
	require.NoError(t, err)
	assert.Equal(t, 554, res.Recipients[0].Code)
	assert.Equal(t, smtp.EnhancedCode{5, 4, 6}, res.Recipients[0].Enhanced)
	assert.Empty(t, queued(t, store))
	res, err = c.Send(t.Context(), to, strings.NewReader(strings.Repeat("Received: x\r\n", 5)+message))
	require.NoError(t, err)
	assert.True(t, res.All())
	assert.Len(t, queued(t, store), 1)
}

// fullStore has no room.
type fullStore struct{ queue.Store }

func (fullStore) Enqueue(ctx context.Context, msgs ...queue.Message) ([]queue.ID, error) {
	return nil, fmt.Errorf("queue: %w", syscall.ENOSPC)
}

func TestHandlerFull(t *testing.T) {
	c := accepting(t, &relay.Handler{Store: fullStore{}})
	res, err := c.Send(t.Context(), &smtp.Envelope{From: "a@b.test", To: []smtp.Recipient{{Address: "c@d.test"}}}, strings.NewReader(message))
	require.NoError(t, err)
	assert.Equal(t, 452, res.Recipients[0].Code)
}

// TestThroughAll sends one message through server, spool, runner and relay: one recipient gets it, the
// other is refused, and the sender is told.
func TestThroughAll(t *testing.T) {
	world := smtptest.NewServer(t, func(s *smtp.Server) { s.Handler = picky{} })
	home := smtptest.NewServer(t)
	net := newInternet(`
		dest.test.     MX 10 mx.dest.test.
		mx.dest.test.  A 203.0.113.1
		example.org.   MX 10 home.test.
		home.test.     A 203.0.113.2
	`)
	net.hosts["203.0.113.1:25"], net.hosts["203.0.113.2:25"] = world.Addr, home.Addr
	store, err := spool.Open(t.TempDir(), nil)
	require.NoError(t, err)
	defer store.Close()
	quiet := slog.New(slog.DiscardHandler)
	runner := queue.Runner{
		Store: store, Transport: net.transport(t), Logger: quiet,
		Report: (&dsn.Writer{Hostname: "mx.example.org"}).Report,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()

	c := accepting(t, &relay.Handler{Store: store})
	res, err := c.Send(t.Context(), &smtp.Envelope{
		From: "ann@example.org", Params: smtp.MailParams{EnvelopeID: "trip 1"},
		To: []smtp.Recipient{{Address: "good@dest.test"}, {Address: "bad@dest.test"}},
	}, strings.NewReader(message))
	require.NoError(t, err)
	require.True(t, res.All())

	wait, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	got := world.Wait(wait, t, 1)[0]
	assert.Equal(t, "good@dest.test", got.To[0].Address)
	assert.True(t, strings.HasSuffix(string(got.Data), message))

	bounce := home.Wait(wait, t, 1)[0]
	assert.Empty(t, bounce.From)
	assert.Equal(t, "ann@example.org", bounce.To[0].Address)
	report, err := dsn.Parse(strings.NewReader(string(bounce.Data)))
	require.NoError(t, err)
	assert.Equal(t, "trip 1", report.EnvelopeID)
	require.Len(t, report.Recipients, 1)
	assert.Equal(t, "bad@dest.test", report.Recipients[0].Final)
	assert.Equal(t, "5.1.1", report.Recipients[0].Status)
	assert.Equal(t, "550 5.1.1 no such user", report.Recipients[0].Diagnostic)
	assert.Equal(t, "mx.dest.test", report.Recipients[0].RemoteMTA)

	var mark queue.Mark
	for len(queued(t, store)) > 0 { // the last settlement may still be under way
		mark, err = store.Wake(wait, mark, time.Now().Add(10*time.Millisecond))
		require.NoError(t, err)
	}
	cancel()
	require.NoError(t, <-done)
}
