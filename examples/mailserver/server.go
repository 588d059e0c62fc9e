package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/pop3"
	"github.com/mailblocks/mailblocks/pop3/maildrop"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"

	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/queue/spool"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/middleware"
)

// server is all of it. Mail comes in through inbound and outbound, both smtp.Handlers; what
// must wait stands in queue, from where the Runner takes it to Deliver; users read it through
// imap and pop3.
type server struct {
	cfg      *config
	tls      *tls.Config
	dkim     map[string][]dkimKey
	accounts *accounts
	resolver resolver.Resolver
	filter   *filter // nil with -no-spam
	metrics  *metrics

	queue  *spool.Store
	relay  *relay.Transport
	runner *queue.Runner

	tlsReports *relay.TLSReporter

	mta, submission, lmtp *smtp.Server
	imap                  *imapserver.Server
	pop3                  *pop3.Server
	http                  *http.Server

	listeners map[string]net.Listener
	serving   sync.WaitGroup
	stopQueue context.CancelFunc
}

func newServer(cfg *config) (_ *server, err error) {
	for _, dir := range []string{cfg.data, filepath.Join(cfg.data, "mta-sts")} {
		if err := atomicfile.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	s := &server{cfg: cfg, metrics: newMetrics(), listeners: make(map[string]net.Listener)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.tls, err = loadTLS(cfg); err != nil {
		return nil, err
	}
	if s.dkim, err = loadDKIM(cfg); err != nil {
		return nil, err
	}
	if s.accounts, err = openAccounts(cfg); err != nil {
		return nil, err
	}
	client := &resolver.Client{}
	if cfg.dns != "" {
		client.Servers = []string{cfg.dns}
	}
	s.resolver = &resolver.Cache{Next: client}
	if !cfg.noSpam {
		if s.filter, err = openFilter(filepath.Join(cfg.data, "spam"), s.accounts.owner); err != nil {
			return nil, err
		}
	}
	kind, dir, _ := strings.Cut(cfg.queue, ":")
	if kind != "spool" {
		return nil, fmt.Errorf("-queue %s: this build has spool", kind)
	}
	if s.queue, err = spool.Open(dir, nil); err != nil {
		return nil, err
	}
	s.relay = s.newRelay()
	s.runner = &queue.Runner{
		Store:     s.queue,
		Transport: s,
		Report:    (&dsn.Writer{Hostname: cfg.hostname}).Report,
		Retry:     queue.Backoff{Intervals: cfg.retry, Life: cfg.queueLife, WarnAfter: cfg.delayWarning},
		BreakFor:  cfg.breaker,
		BreakMax:  cfg.breaker, // zero for both: the defaults
		Trace:     s.metrics.queueTrace(),
	}
	s.newFrontends()
	return s, nil
}

// newFrontends makes a server for each protocol, on the same accounts.
func (s *server) newFrontends() {
	newSMTP := func(h smtp.Handler) *smtp.Server {
		return &smtp.Server{Handler: h, Hostname: s.cfg.hostname, TLS: s.tls, Trace: s.metrics.smtpTrace()}
	}
	s.mta = newSMTP(&inbound{server: s})
	s.submission = newSMTP(smtp.Chain(&outbound{server: s},
		middleware.SenderLogin(s.accounts.owns),
		middleware.MaxHops(0),
		middleware.FixUp(s.cfg.hostname),
		middleware.Received(),
	))
	s.submission.Mode = smtp.ModeSubmission
	s.submission.Extensions = smtp.DefaultExtensions | smtp.ExtDSN | smtp.ExtRequireTLS | smtp.ExtFutureRelease | smtp.ExtPriority
	s.submission.Authenticator = s.accounts
	s.submission.InsecureAuth = s.cfg.insecureAuth
	s.lmtp = newSMTP(&inbound{server: s, trusted: true})
	s.lmtp.Mode = smtp.ModeLMTP

	s.imap = &imapserver.Server{
		Authenticator:     s.accounts,
		TLSConfig:         s.tls,
		AllowInsecureAuth: s.cfg.insecureAuth,
		Name:              s.cfg.hostname,
		Trace:             s.metrics.imapTrace(),
		Login: func(_ context.Context, identity string) (imap.Store, error) {
			store, err := s.accounts.store(canonical(identity))
			if err != nil {
				return nil, err
			}
			store = kept{store}
			if s.filter != nil {
				store = trainingStore{Store: store, user: canonical(identity), train: s.filter.train}
			}
			return store, nil
		},
		// Each user may share mailboxes with each other one.
		Owners: func(context.Context, string) ([]string, error) { return s.accounts.users, nil },
	}
	var locks maildrop.Locks
	s.pop3 = &pop3.Server{
		Authenticator:     s.accounts,
		TLSConfig:         s.tls,
		AllowInsecureAuth: s.cfg.insecureAuth,
		Trace:             s.metrics.pop3Trace(),
		Open: func(ctx context.Context, identity string) (pop3.Maildrop, error) {
			store, err := s.accounts.store(canonical(identity))
			if err != nil {
				return nil, err
			}
			inbox, err := store.Open(ctx, imap.Inbox)
			if err != nil {
				return nil, err
			}
			return locks.Open(ctx, canonical(identity), inbox)
		},
	}
	s.http = &http.Server{Handler: s.web()}
}

// kept is a user's Store that is not closed with a session: accounts does that.
type kept struct{ imap.Store }

func (kept) Close() error { return nil }

// Unwrap lets servers find the optional abilities of the Store below.
func (k kept) Unwrap() imap.Store { return k.Store }

// listen opens all addresses, then serves them and the queue.
func (s *server) listen(out io.Writer) error {
	serve := map[string]func(net.Listener) error{
		"smtp": s.mta.Serve, "submission": s.submission.Serve, "submissions": s.submission.ServeTLS, "lmtp": s.lmtp.Serve,
		"imap": s.imap.Serve, "imaps": s.imap.ServeTLS, "pop3": s.pop3.Serve, "pop3s": s.pop3.ServeTLS, "http": s.http.Serve,
	}
	for _, p := range protocols {
		addr, ok := s.cfg.listeners[p.name]
		if !ok {
			continue
		}
		ln, err := s.cfg.listenOn(addr)
		if err != nil {
			return err
		}
		s.listeners[p.name] = ln
	}
	for _, p := range protocols {
		ln, ok := s.listeners[p.name]
		if !ok {
			continue
		}
		fmt.Fprintf(out, "listening %s %s\n", p.name, ln.Addr())
		s.serving.Go(func() {
			if err := serve[p.name](ln); err != nil && !closed(err) {
				slog.Error("listener failed", slog.String("name", p.name), slog.Any("err", err))
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopQueue = cancel
	s.serving.Go(func() {
		if err := s.runner.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			slog.Error("queue stopped", slog.Any("err", err))
		}
	})
	s.serving.Go(func() {
		if err := s.tlsReports.Run(ctx); err != nil {
			slog.Error("TLS reports stopped", slog.Any("err", err))
		}
	})
	return nil
}

func closed(err error) bool {
	return errors.Is(err, smtp.ErrServerClosed) || errors.Is(err, imapserver.ErrServerClosed) ||
		errors.Is(err, pop3.ErrServerClosed) || errors.Is(err, http.ErrServerClosed)
}

// shutdown lets sessions and deliveries finish until ctx ends.
func (s *server) shutdown(ctx context.Context) error {
	s.stopQueue()
	var wait sync.WaitGroup
	for name, stop := range map[string]func(context.Context) error{
		"smtp": s.mta.Shutdown, "submission": s.submission.Shutdown, "lmtp": s.lmtp.Shutdown,
		"imap": s.imap.Shutdown, "pop3": s.pop3.Shutdown, "http": s.http.Shutdown,
	} {
		wait.Go(func() {
			if err := stop(ctx); err != nil {
				slog.Warn("sessions were cut", slog.String("name", name), slog.Any("err", err))
			}
		})
	}
	wait.Wait()
	s.serving.Wait()
	return s.close()
}

// close releases what newServer opened, as far as it came.
func (s *server) close() error {
	var errs []error
	if s.relay != nil {
		errs = append(errs, s.relay.Close())
	}
	if s.queue != nil {
		errs = append(errs, s.queue.Close())
	}
	if s.filter != nil {
		errs = append(errs, s.filter.close())
	}
	if s.accounts != nil {
		errs = append(errs, s.accounts.close())
	}
	return errors.Join(errs...)
}

// introduce tells a newcomer what to do with the server.
func (s *server) introduce(out io.Writer) {
	user := s.accounts.users[0]
	password := "PASSWORD" // one that was given is not repeated
	if s.cfg.demo {
		password = s.cfg.passwords[user]
	}
	fmt.Fprintln(out)
	for _, u := range s.accounts.users {
		if s.cfg.demo {
			fmt.Fprintf(out, "account %s, password %s\n", u, s.cfg.passwords[u])
		}
	}
	for _, try := range []struct{ name, what, line string }{
		{"submissions", "send a mail", `printf 'From: USER\r\nTo: USER\r\nSubject: hello\r\n\r\nHi.\r\n' | curl -sk smtps://ADDR --user USER:PASSWORD --mail-from USER --mail-rcpt USER --upload-file -`},
		{"submission", "send a mail (STARTTLS)", `printf 'From: USER\r\nTo: USER\r\nSubject: hello\r\n\r\nHi.\r\n' | curl -sk --ssl-reqd smtp://ADDR --user USER:PASSWORD --mail-from USER --mail-rcpt USER --upload-file -`},
		{"smtp", "send as another server", `printf 'From: someone@example.net\r\nSubject: hello\r\n\r\nHi.\r\n' | curl -s smtp://ADDR --mail-from someone@example.net --mail-rcpt USER --upload-file -`},
		{"imaps", "read the first mail", `curl -sk 'imaps://ADDR/INBOX;MAILINDEX=1' --user USER:PASSWORD`},
		{"imap", "read the first mail (STARTTLS)", `curl -sk --ssl-reqd 'imap://ADDR/INBOX;MAILINDEX=1' --user USER:PASSWORD`},
		{"pop3s", "read the first mail", `curl -sk pop3s://ADDR/1 --user USER:PASSWORD`},
		{"pop3", "read the first mail (STLS)", `curl -sk --ssl-reqd pop3://ADDR/1 --user USER:PASSWORD`},
		{"http", "look at the queue", `curl -s http://ADDR/queue`},
	} {
		if ln, ok := s.listeners[try.name]; ok {
			fmt.Fprintf(out, "\n# %s: %s\n", try.name, try.what)
			line := strings.NewReplacer("USER", user, "PASSWORD", password, "ADDR", ln.Addr().String()).Replace(try.line)
			fmt.Fprintln(out, line)
		}
	}
	for _, domain := range s.cfg.domains {
		lines, err := records(domain, s.cfg.hostname, s.dkim[domain])
		if err != nil {
			continue // keys that were loaded can be shown
		}
		fmt.Fprintf(out, "\nDNS records to publish for %s:\n%s\n", domain, strings.Join(lines, "\n"))
	}
	fmt.Fprintln(out, "\nready")
}
