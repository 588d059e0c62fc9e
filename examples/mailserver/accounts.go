package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/mbox"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
)

// accounts knows the users: how they log in, which addresses are theirs, where their mail is.
type accounts struct {
	*saslauth.Accounts // what all three protocols authenticate with
	domains            []string
	open               func(user string) (imap.Store, error)

	mu     sync.Mutex
	stores map[string]imap.Store
	users  []string
}

// canonical is how an address is compared: without case (RFC 5321, 2.4 leaves that to the host).
func canonical(address string) string { return strings.ToLower(address) }

func openAccounts(cfg *config) (*accounts, error) {
	if cfg.demo {
		if err := cfg.demoAccounts(); err != nil {
			return nil, err
		}
	}
	login, err := saslauth.Static(cfg.passwords)
	if err != nil {
		return nil, err
	}
	a := &accounts{Accounts: login, domains: cfg.domains, stores: make(map[string]imap.Store)}
	for user := range cfg.passwords {
		a.users = append(a.users, user)
	}
	slices.Sort(a.users)
	kind, dir, _ := strings.Cut(cfg.store, ":")
	switch kind {
	case "maildir", "mbox":
		a.open = func(user string) (imap.Store, error) {
			local, domain := smtp.SplitAddress(user)
			// Neither part can leave the folder: what is no plain name is escaped.
			path := filepath.Join(dir, fileName(domain), fileName(local))
			if err := atomicfile.MkdirAll(path, 0o700); err != nil {
				return nil, err
			}
			if kind == "mbox" {
				// So that a folder can have both messages and folders in it.
				return mbox.Open(path, &mbox.Options{DirName: "mBoX-MeSsAgEs"})
			}
			return maildir.Open(path, nil)
		}
	case "memory":
		a.open = func(string) (imap.Store, error) { return memstore.New().Open(), nil }
	default:
		return nil, fmt.Errorf("-store %s: this build has maildir, mbox and memory", kind)
	}
	for _, user := range a.users {
		if _, err := a.store(user); err != nil {
			return nil, errors.Join(err, a.close())
		}
	}
	return a, nil
}

// fileName escapes what must not stand in the name of a user's folder.
func fileName(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r == '/' || r == '\\' || r == '%' || r == ':' || r < ' ' || i == 0 && r == '.' {
			fmt.Fprintf(&b, "%%%02X", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// demoAccounts makes alice and bob with passwords that are kept for the next start.
func (cfg *config) demoAccounts() error {
	path := filepath.Join(cfg.data, "demo-accounts")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		for _, name := range []string{"alice", "bob"} {
			b = fmt.Appendf(b, "%s@%s:%s\n", name, cfg.domains[0], strings.ToLower(rand.Text()[:12]))
		}
		err = atomicfile.Write(path, b, 0o600)
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		address, password, ok := strings.Cut(strings.TrimSpace(line), ":")
		if _, domain := smtp.SplitAddress(address); ok && slices.Contains(cfg.domains, domain) {
			cfg.passwords[canonical(address)] = password
		}
	}
	if len(cfg.passwords) == 0 {
		return fmt.Errorf("%s has no account of the domain %s: name one with -user", path, cfg.domains[0])
	}
	return nil
}

// store returns a user's mail, opened once. Its folders are there from the start.
func (a *accounts) store(user string) (imap.Store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.stores[user]; s != nil {
		return s, nil
	}
	s, err := a.open(user)
	if err != nil {
		return nil, err
	}
	for _, use := range []imap.SpecialUse{imap.UseDrafts, imap.UseSent, imap.UseJunk, imap.UseTrash, imap.UseArchive} {
		name := strings.TrimPrefix(string(use), `\`)
		err := s.Create(context.Background(), name, &imap.CreateOptions{SpecialUse: use})
		if errors.Is(err, imap.ErrMailboxExists) {
			break // made at an earlier start; the user may have removed others since
		}
		if err == nil {
			err = s.Subscribe(context.Background(), name, true)
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	a.stores[user] = s
	return s, nil
}

// isLocal reports whether mail for the domain ends here.
func (a *accounts) isLocal(domain string) bool {
	return domain == "" || slices.Contains(a.domains, strings.ToLower(domain))
}

// find returns the user an address belongs to: without what stands behind a "+", and for
// <postmaster> the first user (RFC 5321, 4.5.1).
func (a *accounts) find(address string) (user string, ok bool) {
	local, domain := smtp.SplitAddress(canonical(address))
	if !a.isLocal(domain) {
		return "", false
	}
	if domain == "" {
		domain = a.domains[0]
	}
	base, _, _ := strings.Cut(local, "+")
	for _, l := range []string{local, base} {
		if user := l + "@" + domain; slices.Contains(a.users, user) {
			return user, true
		}
	}
	if local == "postmaster" && len(a.users) > 0 {
		return a.users[0], true
	}
	return "", false
}

// owns reports whether a user may send in the name of an address. The null sender is
// anybody's: that of receipts.
func (a *accounts) owns(_ context.Context, identity, from string) (bool, error) {
	user, ok := a.find(from)
	return from == "" || ok && user == canonical(identity), nil
}

func (a *accounts) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for user, s := range a.stores {
		if err := s.Close(); err != nil {
			slog.Error("store not closed", slog.String("user", user), slog.Any("err", err))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
