package imapserver

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// Others' mail stands below usersPrefix: "user/bob/Work" is bob's mailbox Work, and
// "user/bob/INBOX" his Inbox (RFC 2342, 5).
const usersPrefix = "user/"

// accessStore is mail as one user may see and change it (RFC 4314, 4): the user's own and,
// where the server knows of other owners, what they share. It enforces rights at the level of
// the mailbox contract, so that no command can forget to: what the user lacks the right for is
// ErrNoPermission, or ErrNoMailbox where even that the mailbox exists is not the user's to
// know (RFC 4314, 6).
type accessStore struct {
	server *Server
	user   string
	own    imap.Store

	mu     sync.Mutex
	others map[string]imap.Store // of owners, opened at need
	quiet  map[string]quietOwner
}

// quietOwner is an owner who shared nothing with the user when last looked at.
type quietOwner struct {
	lists int64 // Server.lists at that time
	until time.Time
}

// quietTime is how long it may take until another process's change of a list is seen by LIST.
// Ours are at once.
const quietTime = 10 * time.Second

func (s *accessStore) isQuiet(owner string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.quiet[owner]
	return ok && q.lists == s.server.lists.Load() && time.Now().Before(q.until)
}

func (s *accessStore) setQuiet(owner string, lists int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet[owner] = quietOwner{lists, time.Now().Add(quietTime)}
}

var (
	_ imap.Store        = (*accessStore)(nil)
	_ imap.StoreWrapper = (*accessStore)(nil)
)

// openStore opens a user's mail, with rights enforced where the Store keeps them.
func (s *Server) openStore(ctx context.Context, identity string) (imap.Store, error) {
	store, err := s.Login(ctx, identity)
	if err != nil {
		return nil, err
	}
	if _, ok := imap.UpgradeStore[imap.Rights](store); ok {
		store = &accessStore{server: s, user: identity, own: store, others: make(map[string]imap.Store), quiet: make(map[string]quietOwner)}
	}
	return store, nil
}

// Unwrap makes the own Store's upgrades reachable. Those that are about a mailbox belong to
// its place.
func (s *accessStore) Unwrap() imap.Store { return s.own }

// Close closes all Stores.
func (s *accessStore) Close() error {
	errs := []error{s.own.Close()}
	for _, other := range s.others {
		errs = append(errs, other.Close())
	}
	return errors.Join(errs...)
}

// A place is where a mailbox is: an owner's Store, and its name there.
type place struct {
	store imap.Store
	owner string
	name  string
}

// place returns where a mailbox is, whether or not there is one.
func (a *account) place(ctx context.Context, name string) (place, error) {
	if s, ok := a.store.(*accessStore); ok {
		return s.place(ctx, name)
	}
	return place{a.store, a.identity, name}, nil
}

func (s *accessStore) shares(name string) bool {
	return s.server.Owners != nil && strings.HasPrefix(name+"/", usersPrefix)
}

func (s *accessStore) place(ctx context.Context, name string) (p place, err error) {
	if !s.shares(name) {
		return place{s.own, s.user, name}, nil
	}
	owner, rest, ok := strings.Cut(strings.TrimPrefix(name, usersPrefix), "/")
	if !ok || name+"/" == usersPrefix {
		return p, imap.ErrNotSelectable
	}
	if equalFold(rest, imap.Inbox) {
		rest = imap.Inbox
	}
	store, err := s.other(ctx, owner)
	return place{store, owner, rest}, err
}

// other returns another owner's Store, if there is such an owner.
func (s *accessStore) other(ctx context.Context, owner string) (imap.Store, error) {
	known, err := s.server.isOwner(ctx, s.user, owner)
	if err != nil {
		return nil, err
	}
	if !known || owner == s.user {
		return nil, imap.ErrNoMailbox
	}
	return s.openOther(ctx, owner)
}

func (s *accessStore) openOther(ctx context.Context, owner string) (imap.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if store := s.others[owner]; store != nil {
		return store, nil
	}
	store, err := s.server.Login(ctx, owner)
	if err == nil {
		s.others[owner] = store
	}
	return store, err
}

// isOwner reports whether a user may come to another's mail at all.
func (s *Server) isOwner(ctx context.Context, user, owner string) (bool, error) {
	if s.Owners == nil {
		return false, nil
	}
	owners, err := s.Owners(ctx, user)
	return slices.Contains(owners, owner), err
}

// rights returns what a user may do there.
func (p place) rights(ctx context.Context, user string) (imap.RightSet, error) {
	return imap.EffectiveRights(ctx, p.store, p.name, user, p.owner)
}

// denied is the error for who lacks a right.
func denied(has imap.RightSet) error {
	if has&imap.RightLookup != 0 {
		return imap.ErrNoPermission
	}
	return imap.ErrNoMailbox
}

// need returns a place where the user has all rights of want.
func (s *accessStore) need(ctx context.Context, name string, want imap.RightSet) (place, error) {
	p, err := s.place(ctx, name)
	if err != nil {
		return p, err
	}
	has, err := p.rights(ctx, s.user)
	if err == nil && has&want != want {
		err = denied(has)
	}
	return p, err
}

// Mailboxes yields what the user may look up: of others' mail also the levels above it.
func (s *accessStore) Mailboxes(ctx context.Context) iter.Seq2[imap.MailboxInfo, error] {
	return func(yield func(imap.MailboxInfo, error) bool) {
		subscribed := make(map[string]bool) // others' mailboxes; the subscription is the user's own
		for info, err := range s.own.Mailboxes(ctx) {
			if s.shares(info.Name) {
				subscribed[info.Name] = info.Subscribed
			} else if !yield(info, err) {
				return
			}
		}
		if s.server.Owners == nil {
			return
		}
		show := func(info imap.MailboxInfo, err error) bool {
			info.Subscribed = subscribed[info.Name]
			delete(subscribed, info.Name)
			return yield(info, err)
		}
		owners, err := s.server.Owners(ctx, s.user)
		if err != nil && !show(imap.MailboxInfo{Name: strings.TrimSuffix(usersPrefix, "/"), NoSelect: true}, err) {
			return
		}
		owners = slices.Sorted(slices.Values(owners))
		some := false
		for _, owner := range slices.Compact(owners) {
			if owner == s.user || strings.Contains(owner, "/") || imap.CheckName(owner) != nil {
				continue
			}
			found, goOn := s.listOther(ctx, owner, show)
			if !goOn {
				return
			}
			some = some || found
		}
		if some && !show(imap.MailboxInfo{Name: strings.TrimSuffix(usersPrefix, "/"), NoSelect: true}, nil) {
			return
		}
		for name, on := range subscribed {
			if on && !yield(imap.MailboxInfo{Name: name, NoSelect: true, NonExistent: true, Subscribed: true}, nil) {
				return
			}
		}
	}
}

// listOther yields what an owner lets the user look up.
func (s *accessStore) listOther(ctx context.Context, owner string, yield func(imap.MailboxInfo, error) bool) (some, goOn bool) {
	if s.isQuiet(owner) {
		return false, true
	}
	lists := s.server.lists.Load() // before looking
	level := usersPrefix + owner
	store, err := s.openOther(ctx, owner)
	if err != nil {
		return true, yield(imap.MailboxInfo{Name: level, NoSelect: true}, err)
	}
	for info, err := range store.Mailboxes(ctx) {
		if info.NoSelect || info.Name == "" {
			continue
		}
		rights, rerr := place{store, owner, info.Name}.rights(ctx, s.user)
		if rerr != nil || rights&imap.RightLookup == 0 {
			continue
		}
		some = true
		info.Name = level + "/" + info.Name
		info.ID = foreignID(owner, info.ID)
		info.SpecialUse = "" // it is the owner's
		if !yield(info, err) {
			return some, false
		}
	}
	if !some {
		s.setQuiet(owner, lists)
		return false, true
	}
	return true, yield(imap.MailboxInfo{Name: level, NoSelect: true}, nil)
}

// foreignID makes an id that is unique among the mailboxes of several owners.
func foreignID(owner, id string) string {
	if id == "" {
		return ""
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(owner))
	return fmt.Sprintf("%s-%x", id, h.Sum64())
}

// Open opens a mailbox for which the user has any right.
func (s *accessStore) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	p, err := s.place(ctx, name)
	if err != nil {
		return nil, err
	}
	mb, err := p.store.Open(ctx, p.name)
	if err != nil {
		if p.owner != s.user && errors.Is(err, imap.ErrNotSelectable) {
			err = imap.ErrNoMailbox
		}
		return nil, err
	}
	m := &accessMailbox{Mailbox: mb, store: s, place: p}
	if has, err := m.rights(ctx); err != nil || has == 0 {
		_ = mb.Close()
		if err == nil {
			err = denied(has)
		}
		return nil, err
	}
	return m, nil
}

// parent returns the list of the nearest mailbox above a name, and whether there is one.
func (p place) parent(ctx context.Context) (acl imap.ACL, found bool, err error) {
	rights, _ := imap.UpgradeStore[imap.Rights](p.store)
	if rights == nil {
		return nil, false, nil
	}
	name := p.name
	for {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return nil, false, nil
		}
		name = name[:i]
		acl, err = rights.ACL(ctx, name)
		if !errors.Is(err, imap.ErrNoMailbox) && !errors.Is(err, imap.ErrNotSelectable) {
			return acl, err == nil, err
		}
	}
}

// mayCreate returns the list that a new mailbox inherits, if the user may make it.
func (s *accessStore) mayCreate(ctx context.Context, p place) (imap.ACL, error) {
	acl, found, err := p.parent(ctx)
	switch {
	case err != nil:
		return nil, err
	case found && acl.Of(s.user, p.owner)&imap.RightCreate == 0, !found && p.owner != s.user:
		return nil, imap.ErrNoPermission
	}
	return acl, nil
}

// Create needs k on the nearest mailbox above, whose list it inherits. At the top only the
// owner may.
func (s *accessStore) Create(ctx context.Context, name string, opts *imap.CreateOptions) error {
	p, err := s.place(ctx, name)
	if errors.Is(err, imap.ErrNotSelectable) {
		return imap.ErrBadName
	} else if err != nil {
		return err
	}
	acl, err := s.mayCreate(ctx, p)
	if err != nil {
		return err
	}
	if err := p.store.Create(ctx, p.name, opts); err != nil {
		return err
	}
	rights, _ := imap.UpgradeStore[imap.Rights](p.store)
	for _, e := range acl {
		if err := rights.SetRights(ctx, p.name, e.Identifier, imap.RightsOp{Action: imap.FlagsReplace, Rights: e.Rights}); err != nil {
			return err
		}
	}
	return nil
}

// Delete needs x.
func (s *accessStore) Delete(ctx context.Context, name string) error {
	p, err := s.need(ctx, name, imap.RightDeleteBox)
	if errors.Is(err, imap.ErrNotSelectable) {
		return imap.ErrHasChildren
	} else if err != nil {
		return err
	}
	return p.store.Delete(ctx, p.name)
}

// Rename needs x on the mailbox, and k above its new name when that is elsewhere.
func (s *accessStore) Rename(ctx context.Context, old, new string) error {
	from, err := s.need(ctx, old, imap.RightDeleteBox)
	if err != nil {
		return err
	}
	to, err := s.place(ctx, new)
	switch {
	case errors.Is(err, imap.ErrNotSelectable):
		return imap.ErrMailboxExists
	case err != nil:
		return err
	case from.owner != to.owner:
		return imap.ErrBadName // mail does not change its owner
	}
	if parentName(from.name) != parentName(to.name) {
		if _, err := s.mayCreate(ctx, to); err != nil {
			return err
		}
	}
	return from.store.Rename(ctx, from.name, to.name)
}

func parentName(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

// Subscribe keeps the user's own subscriptions, to others' mailboxes too. It needs no right,
// and tells nothing.
func (s *accessStore) Subscribe(ctx context.Context, name string, on bool) error {
	return s.own.Subscribe(ctx, name, on)
}
