package mbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// Options are the optional parts of Open. A nil *Options means defaults. Stores of one process
// on the same files share them, each with the options it was first opened with.
type Options struct {
	// Inbox is the file of the Inbox, such as /var/mail/ann. Empty: "inbox" in the root, where
	// Dovecot has it.
	Inbox string
	// DirName, when set, makes each mailbox a folder, and the mail a file of that name in it:
	// only so can a mailbox have both messages and children. Dovecot's option is DIRNAME, its
	// usual value "mBoX-MeSsAgEs". Without it a mailbox is a file and a level is a folder.
	DirName string
	// Dialect that the files are in. Auto: Dovecot. The others quote and unquote: see Dialect.
	Dialect Dialect
	// Location is where dates of separators without a zone are, and are written. Nil: time.Local,
	// as Dovecot and mutt have it.
	Location *time.Location
	// LockWait and NoDotLock are as in LockOptions.
	LockWait  time.Duration
	NoDotLock bool
	// Logger gets what is wrong with a file and mended or passed over. Nil: slog.Default().
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	disk  *disk
	apart bool // shares nothing in memory with other Stores
}

func (o *Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

func (o *Options) logger() *slog.Logger {
	if o.Logger != nil {
		return o.Logger
	}
	return slog.Default()
}

// A Store is a tree of mbox files as an imap.Store. It keeps no state but that of the files that
// are open, which it shares with all other Stores of the process.
type Store struct {
	root string
	opts *Options
}

var _ imap.Store = (*Store)(nil)

// Open opens the tree at root, and makes the folder where there is none. Any number of Stores
// may be open on a tree, in any number of processes, beside Dovecot, mutt and programs that
// deliver, if they lock with fcntl and lock files.
func Open(root string, opts *Options) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err == nil {
		err = atomicfile.MkdirAll(abs, 0o700)
	}
	s := &Store{root: abs, opts: &Options{}}
	if opts != nil {
		*s.opts = *opts
	}
	if s.opts.Inbox == "" {
		s.opts.Inbox = filepath.Join(abs, inboxFile)
	}
	if s.opts.Dialect == Auto {
		s.opts.Dialect = Dovecot
	}
	if s.opts.Location == nil {
		s.opts.Location = time.Local
	}
	if s.opts.DirName != "" && strings.ContainsAny(s.opts.DirName, "/\x00") {
		err = fmt.Errorf("%q is no name of a file", s.opts.DirName)
	}
	if err != nil {
		return nil, fmt.Errorf("mbox: open %s: %w", root, err)
	}
	return s, nil
}

// Close implements imap.Store. It has nothing to release.
func (s *Store) Close() error { return nil }

// lock takes a lock of the whole tree for a purpose.
func (s *Store) lock(ctx context.Context, purpose string) (unlock func(), err error) {
	l, err := waitLock(ctx, filepath.Join(s.root, ".mailblocks-"+purpose))
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil
}

// tree returns the file of each mailbox but the Inbox, by name, and the levels that are folders.
func (s *Store) tree() (files map[string]string, levels map[string]bool, err error) {
	files, levels = make(map[string]string), make(map[string]bool)
	var walk func(dir, prefix string) error
	walk = func(dir, prefix string) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			level, ok := levelName(e.Name(), prefix == "")
			if !ok {
				continue
			}
			path, name := filepath.Join(dir, e.Name()), prefix+level
			info, err := os.Stat(path)
			if err != nil || imap.CheckName(name) != nil || name == imap.Inbox && !info.IsDir() {
				continue
			}
			switch {
			case info.IsDir():
				levels[name] = true
				if s.opts.DirName != "" && name != imap.Inbox {
					if own, err := os.Stat(filepath.Join(path, s.opts.DirName)); err == nil && own.Mode().IsRegular() {
						files[name] = filepath.Join(path, s.opts.DirName)
					}
				}
				if err := walk(path, name+"/"); err != nil {
					s.opts.logger().Warn("folder not listed", "dir", path, "err", err)
				}
			case info.Mode().IsRegular() && s.opts.DirName == "" && path != s.opts.Inbox:
				files[name] = path
			}
		}
		return nil
	}
	return files, levels, walk(s.root, "")
}

// Mailboxes implements imap.Store.
func (s *Store) Mailboxes(ctx context.Context) iter.Seq2[imap.MailboxInfo, error] {
	return func(yield func(imap.MailboxInfo, error) bool) {
		files, levels, err := s.tree()
		if err != nil {
			yield(imap.MailboxInfo{}, fmt.Errorf("mbox: list %s: %w", s.root, err))
			return
		}
		subscribed, err := subscriptionsOf(s.root).Read()
		if err != nil && !yield(imap.MailboxInfo{}, fmt.Errorf("mbox: subscriptions of %s: %w", s.root, err)) {
			return
		}
		files[imap.Inbox] = s.opts.Inbox
		list := make(map[string]imap.MailboxInfo)
		for name := range levels {
			if files[name] == "" {
				list[name] = imap.MailboxInfo{Name: name, NoSelect: true}
			}
		}
		for _, name := range subscribed {
			if files[name] != "" {
				continue
			}
			info, ok := list[name]
			if !ok {
				info = imap.MailboxInfo{Name: name, NoSelect: true, NonExistent: true}
			}
			info.Subscribed = true
			list[name] = info
		}
		for _, info := range list {
			if !yield(info, nil) {
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			info, err := s.info(ctx, name, files[name])
			if errors.Is(err, imap.ErrNoMailbox) {
				continue // deleted meanwhile
			}
			_, info.Subscribed = slices.BinarySearch(subscribed, name)
			if !yield(info, err) {
				return
			}
		}
	}
}

func (s *Store) info(ctx context.Context, name, path string) (imap.MailboxInfo, error) {
	info := imap.MailboxInfo{Name: name, NoInferiors: s.opts.DirName == "" && name != imap.Inbox}
	b, err := os.ReadFile(sidecar(path, useSuffix))
	if use := strings.TrimSpace(string(b)); err == nil && strings.HasPrefix(use, `\`) && imap.Flag(use[1:]).Valid() {
		info.SpecialUse = imap.SpecialUse(use)
	}
	if info.ID = indexID(path); info.ID != "" {
		return info, nil
	}
	box, err := s.Open(ctx, name)
	if err != nil {
		return info, err
	}
	defer box.Close()
	state, err := box.State(ctx)
	info.ID = state.ID
	return info, err
}

// Open implements imap.Store.
func (s *Store) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	path, err := s.file(name)
	if err != nil {
		return nil, fmt.Errorf("mbox: open %q: %w", name, imap.ErrNoMailbox)
	}
	f, err := openFolder(s.root, path, name == imap.Inbox, s.opts)
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
		err = imap.ErrNoMailbox
		if s.isLevel(name) {
			err = imap.ErrNotSelectable
		}
	}
	if err != nil {
		return nil, fmt.Errorf("mbox: open %q: %w", name, err)
	}
	return &mailbox{store: s, f: f}, nil
}

// isLevel tells whether name is a folder.
func (s *Store) isLevel(name string) bool {
	dir, err := s.dir(name)
	if err != nil {
		return false
	}
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// Create implements imap.Store.
func (s *Store) Create(ctx context.Context, name string, opts *imap.CreateOptions) error {
	unlock, err := s.lock(ctx, "tree")
	if err == nil {
		err = s.create(ctx, name, opts)
		unlock()
	}
	if err != nil {
		return fmt.Errorf("mbox: create %q: %w", name, err)
	}
	return nil
}

func (s *Store) create(ctx context.Context, name string, opts *imap.CreateOptions) error {
	path, err := s.file(name)
	if err != nil {
		return err
	}
	if name == imap.Inbox {
		return imap.ErrMailboxExists
	}
	if info, err := os.Stat(path); err == nil {
		if info.Mode().IsRegular() {
			return imap.ErrMailboxExists
		}
		return imap.ErrBadName // a level, which can not hold messages here
	}
	if err := atomicfile.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return badLevel(err)
	}
	if opts != nil && opts.SpecialUse != "" {
		if err := atomicfile.Write(sidecar(path, useSuffix), []byte(opts.SpecialUse+"\n"), 0o600); err != nil {
			return err
		}
	}
	// The index comes first: who sees the file must not take it for an older one of this name.
	validity, err := nextUIDValidity(ctx, s.root, s.opts.now())
	if err != nil {
		return err
	}
	f := &folder{path: path, opts: s.opts, base: base{validity: validity}, next: 1}
	f.index = index{path: sidecar(path, indexSuffix), numbers: make(map[string]uint32)}
	f.file.size = -1 // of no file
	if err := f.writeIndex(true); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// badLevel makes of the error for a level that is a file the one for a name that can not be.
func badLevel(err error) error {
	if isNotDir(err) {
		return fmt.Errorf("%w: a mailbox without DirName has no children", imap.ErrBadName)
	}
	return err
}

// Delete implements imap.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	unlock, err := s.lock(ctx, "tree")
	if err == nil {
		err = s.delete(ctx, name)
		unlock()
	}
	if err != nil {
		return fmt.Errorf("mbox: delete %q: %w", name, err)
	}
	return nil
}

func (s *Store) delete(ctx context.Context, name string) error {
	if name == imap.Inbox {
		return imap.ErrBadName
	}
	path, err := s.file(name)
	if err != nil {
		return imap.ErrNoMailbox
	}
	l, err := s.lockBox(ctx, name, path)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if err == nil {
		for _, suffix := range sidecars {
			_ = os.Remove(sidecar(path, suffix))
		}
	}
	_ = l.Unlock()
	if err != nil {
		return err
	}
	s.left(path)
	return s.prune(filepath.Dir(path))
}

// lockBox locks a mailbox to delete or rename it.
func (s *Store) lockBox(ctx context.Context, name, path string) (*Lock, error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		if s.isLevel(name) {
			return nil, imap.ErrHasChildren
		}
		return nil, imap.ErrNoMailbox
	}
	return LockFile(ctx, path, &LockOptions{Wait: s.opts.LockWait, NoDotLock: s.opts.NoDotLock, exists: true, disk: s.opts.disk})
}

// left has those who look at the file of a mailbox that has gone see it.
func (s *Store) left(path string) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, f := range registry.folders {
		if f.path == path {
			unregister(f)
			f.wake()
		}
	}
}

// prune removes folders that are empty, from dir up to the root.
func (s *Store) prune(dir string) error {
	for dir != s.root && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
	return atomicfile.SyncDir(dir)
}

// Rename implements imap.Store. The mailbox goes first, its children one by one after it: a
// crash between leaves some of those under their old names.
func (s *Store) Rename(ctx context.Context, old, new string) error {
	unlock, err := s.lock(ctx, "tree")
	if err == nil {
		err = s.rename(ctx, old, new)
		unlock()
	}
	if err != nil {
		return fmt.Errorf("mbox: rename %q to %q: %w", old, new, err)
	}
	return nil
}

func (s *Store) rename(ctx context.Context, old, new string) error {
	if _, err := s.file(new); err != nil {
		return err
	}
	files, levels, err := s.tree()
	if err != nil {
		return err
	}
	if new == imap.Inbox || files[new] != "" || levels[new] {
		return imap.ErrMailboxExists
	}
	if old == imap.Inbox {
		return s.renameInbox(ctx, new)
	}
	if strings.HasPrefix(new, old+"/") {
		return imap.ErrBadName
	}
	var names []string // the mailbox itself sorts first
	for name := range files {
		if name == old || strings.HasPrefix(name, old+"/") {
			if _, err := s.file(new + name[len(old):]); err != nil {
				return err
			}
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return imap.ErrNoMailbox
	}
	slices.Sort(names)
	for _, name := range names {
		to, err := s.file(new + name[len(old):])
		if err != nil {
			return err
		}
		if err := s.renameFile(ctx, name, files[name], to); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) renameFile(ctx context.Context, name, from, to string) error {
	if err := atomicfile.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return badLevel(err)
	}
	l, err := s.lockBox(ctx, name, from)
	if err != nil {
		return err
	}
	defer l.Unlock()
	for _, suffix := range sidecars { // before the file: it is the mailbox
		err := os.Rename(sidecar(from, suffix), sidecar(to, suffix))
		if errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(sidecar(to, suffix)) // of an older mailbox
		} else if err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	s.left(from)
	_ = l.Unlock() // its lock file keeps the folder
	return s.prune(filepath.Dir(from))
}

func (s *Store) renameInbox(ctx context.Context, new string) error {
	if err := s.create(ctx, new, nil); err != nil {
		return err
	}
	inbox, err := s.Open(ctx, imap.Inbox)
	if err != nil {
		return err
	}
	defer inbox.Close()
	_, err = inbox.Copy(ctx, imap.AllUIDs, new, true)
	return err
}

// Subscribe implements imap.Store.
func (s *Store) Subscribe(ctx context.Context, name string, on bool) error {
	err := imap.CheckName(name)
	if err == nil {
		err = s.subscribe(ctx, name, on)
	}
	if err != nil {
		return fmt.Errorf("mbox: subscribe %q: %w", name, err)
	}
	return nil
}
