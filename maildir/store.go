package maildir

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
	"github.com/mailblocks/mailblocks/internal/disk"
)

// Options are the optional parts of Open. A nil *Options means defaults. Stores of one process
// on the same tree share its folders, each with the options it was first opened with.
type Options struct {
	// SingleWriter promises that nobody but this process changes the tree: what it wrote
	// itself is never listed again.
	SingleWriter bool
	// Quota limits a tree that has no maildirsize file yet. SetQuota changes the limits of one
	// that has.
	Quota QuotaLimits
	// Logger gets what is wrong with a folder and mended or passed over. Nil: slog.Default().
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
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

// A Store is a Maildir++ tree as an imap.Store. It keeps no state but that of the folders
// that are open, which it shares with all other Stores of the process on the same tree.
type Store struct {
	root string
	opts Options
}

var (
	_ imap.Store        = (*Store)(nil)
	_ imap.StoreWatcher = (*Store)(nil)
	_ imap.Quotas       = (*Store)(nil)
	_ imap.Annotations  = (*Store)(nil)
	_ imap.Rights       = (*Store)(nil)
)

// Open opens the tree at root, and makes it, with its Inbox, where there is none. Any number
// of Stores may be open on a tree, in any number of processes, beside Dovecot, mutt and
// programs that deliver.
func Open(root string, opts *Options) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("maildir: open %s: %w", root, err)
	}
	s := &Store{root: abs}
	if opts != nil {
		s.opts = *opts
	}
	if _, err := os.Stat(filepath.Join(abs, "cur")); errors.Is(err, fs.ErrNotExist) {
		if err := Dir(abs).Init(); err != nil {
			return nil, err
		}
	}
	if err := Dir(abs).CleanTmp(s.opts.now()); err != nil {
		s.opts.logger().Warn("maildir tmp not cleaned", slog.String("dir", abs), slog.Any("err", err))
	}
	return s, nil
}

// Close implements imap.Store. It has nothing to release.
func (s *Store) Close() error { return nil }

// path returns the folder of a mailbox. A folder that exists under the name in UTF-8 is
// taken, else it is the one under the name in modified UTF-7, which may not exist.
func (s *Store) path(name string) (string, error) {
	folder, err := folderName(name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.root, folder)
	if !isMaildir(path) && !strings.ContainsRune(name, '.') {
		if plain := filepath.Join(s.root, "."+strings.ReplaceAll(name, "/", ".")); isMaildir(plain) {
			return plain, nil
		}
	}
	return path, nil
}

func isMaildir(path string) bool {
	info, err := os.Stat(filepath.Join(path, "cur"))
	return err == nil && info.IsDir()
}

// tree returns the folder of each mailbox but the Inbox, by name.
func (s *Store) tree() (map[string]string, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, err
	}
	tree := make(map[string]string)
	for _, e := range entries {
		if name, ok := mailboxName(e.Name()); ok {
			if path := filepath.Join(s.root, e.Name()); isMaildir(path) {
				tree[name] = path
			}
		}
	}
	return tree, nil
}

// Mailboxes implements imap.Store.
func (s *Store) Mailboxes(ctx context.Context) iter.Seq2[imap.MailboxInfo, error] {
	return func(yield func(imap.MailboxInfo, error) bool) {
		tree, err := s.tree()
		if err != nil {
			yield(imap.MailboxInfo{}, fmt.Errorf("maildir: list %s: %w", s.root, err))
			return
		}
		subscribed, err := subscriptionsOf(s.root).Read()
		if err != nil && !yield(imap.MailboxInfo{}, fmt.Errorf("maildir: subscriptions of %s: %w", s.root, err)) {
			return
		}
		tree[imap.Inbox] = s.root
		list := make(map[string]imap.MailboxInfo)
		for name := range tree {
			for i, c := range name {
				if level := name[:i]; c == '/' && tree[level] == "" {
					list[level] = imap.MailboxInfo{Name: level, NoSelect: true}
				}
			}
		}
		for _, name := range subscribed {
			info, ok := list[name]
			if !ok && tree[name] == "" {
				info = imap.MailboxInfo{Name: name, NoSelect: true, NonExistent: true}
			}
			if tree[name] == "" {
				info.Subscribed = true
				list[name] = info
			}
		}
		for _, info := range list {
			if !yield(info, nil) {
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(tree)) {
			info, err := s.info(ctx, name, tree[name])
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
	info := imap.MailboxInfo{Name: name}
	use, err := readSpecialUse(path)
	if err != nil {
		return info, err
	}
	info.SpecialUse = use
	// The id stands in the first line of the UID list. One without an id is made as for Open.
	list := uidList{path: filepath.Join(path, uidListFile)}
	if err := list.readHeader(); err == nil && list.guid != "" {
		info.ID = list.guid
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
	path, err := s.path(name)
	if err != nil {
		return nil, fmt.Errorf("maildir: open %q: %w", name, imap.ErrNoMailbox)
	}
	f, err := openFolder(s.root, path, &s.opts)
	if errors.Is(err, fs.ErrNotExist) && name == imap.Inbox {
		if err := Dir(s.root).Init(); err != nil {
			return nil, err
		}
		f, err = openFolder(s.root, path, &s.opts)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = imap.ErrNoMailbox
		if s.isLevel(name) {
			err = imap.ErrNotSelectable
		}
	}
	if err != nil {
		return nil, fmt.Errorf("maildir: open %q: %w", name, err)
	}
	return &mailbox{store: s, f: f}, nil
}

func (s *Store) isLevel(name string) bool {
	tree, err := s.tree()
	if err != nil {
		return false
	}
	for other := range tree {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

// Create implements imap.Store.
func (s *Store) Create(ctx context.Context, name string, opts *imap.CreateOptions) error {
	if err := s.create(ctx, name, opts); err != nil {
		return fmt.Errorf("maildir: create %q: %w", name, err)
	}
	return nil
}

func (s *Store) create(ctx context.Context, name string, opts *imap.CreateOptions) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	if isMaildir(path) {
		return imap.ErrMailboxExists
	}
	// It is made whole under another name, and comes to be by the rename.
	fresh, err := disk.MkdirTemp(s.root, "mailblocks-new-*")
	if err != nil {
		return err
	}
	defer disk.RemoveAll(fresh)
	if err := Dir(fresh).Init(); err != nil {
		return err
	}
	if err := makeEmpty(filepath.Join(fresh, "maildirfolder"), 0o600); err != nil {
		return err
	}
	if opts != nil && opts.SpecialUse != "" {
		if err := atomicfile.Write(filepath.Join(fresh, specialUseFile), []byte(opts.SpecialUse+"\n"), 0o600); err != nil {
			return err
		}
	}
	validity, err := nextUIDValidity(ctx, s.root, s.opts.now())
	if err != nil {
		return err
	}
	list := uidList{path: filepath.Join(fresh, uidListFile), validity: validity, next: 1}
	if err := list.write(func(func(uidRecord) bool) {}); err != nil {
		return err
	}
	if err := disk.Rename(fresh, path); err != nil {
		if isMaildir(path) {
			return imap.ErrMailboxExists
		}
		return err
	}
	return atomicfile.SyncDir(s.root)
}

// Delete implements imap.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.delete(ctx, name); err != nil {
		return fmt.Errorf("maildir: delete %q: %w", name, err)
	}
	return nil
}

func (s *Store) delete(ctx context.Context, name string) error {
	if name == imap.Inbox {
		return imap.ErrBadName
	}
	path, err := s.path(name)
	if err != nil {
		return imap.ErrNoMailbox
	}
	if !isMaildir(path) {
		if s.isLevel(name) {
			return imap.ErrHasChildren
		}
		return imap.ErrNoMailbox
	}
	// Gone at once by the rename; a crash after it leaves a folder that nobody lists.
	away, err := disk.MkdirTemp(s.root, "mailblocks-deleted-*")
	if err != nil {
		return err
	}
	defer disk.RemoveAll(away)
	if err := disk.Rename(path, filepath.Join(away, "folder")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return imap.ErrNoMailbox
		}
		return err
	}
	wakeFolder(path)
	if err := atomicfile.SyncDir(s.root); err != nil {
		return err
	}
	size, err := s.quota().read()
	if err == nil && size.limits != (QuotaLimits{}) {
		_, err = s.quota().recount(ctx, size.limits, usage{})
	}
	if err != nil { // the mailbox has gone all the same
		s.opts.logger().Warn("maildirsize not written", slog.String("dir", s.root), slog.Any("err", err))
	}
	return nil
}

// wakeFolder tells those who watch the folder at path in this process that it has gone.
func wakeFolder(path string) {
	registry.mu.Lock()
	f := registry.folders[path]
	registry.mu.Unlock()
	if f != nil {
		f.wake()
	}
}

// Rename implements imap.Store. The mailbox goes first, its children one by one after it: a
// crash between leaves some of those under their old names.
func (s *Store) Rename(ctx context.Context, old, new string) error {
	if err := s.rename(ctx, old, new); err != nil {
		return fmt.Errorf("maildir: rename %q to %q: %w", old, new, err)
	}
	return nil
}

func (s *Store) rename(ctx context.Context, old, new string) error {
	if _, err := folderName(new); err != nil {
		return err
	}
	tree, err := s.tree()
	if err != nil {
		return err
	}
	if new == imap.Inbox || tree[new] != "" || s.isLevel(new) {
		return imap.ErrMailboxExists
	}
	if old == imap.Inbox {
		return s.renameInbox(ctx, new)
	}
	if strings.HasPrefix(new, old+"/") {
		return imap.ErrBadName
	}
	var names []string // the mailbox itself sorts first
	moves := make(map[string]string)
	for name, path := range tree {
		if name != old && !strings.HasPrefix(name, old+"/") {
			continue
		}
		folder, err := folderName(new + name[len(old):])
		if err != nil {
			return err
		}
		names, moves[path] = append(names, name), filepath.Join(s.root, folder)
	}
	if len(names) == 0 {
		return imap.ErrNoMailbox
	}
	slices.Sort(names)
	for _, name := range names {
		path := tree[name]
		if err := disk.Rename(path, moves[path]); err != nil {
			return err
		}
		wakeFolder(path)
	}
	return atomicfile.SyncDir(s.root)
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
	entries, err := s.Annotations(ctx, imap.Inbox)
	if err != nil {
		return err
	}
	var copies []imap.Annotation
	for entry, value := range entries {
		copies = append(copies, imap.Annotation{Entry: entry, Value: value})
	}
	if err := s.Annotate(ctx, new, copies); err != nil {
		return err
	}
	acl, err := s.ACL(ctx, imap.Inbox)
	if err != nil {
		return err
	}
	for _, e := range acl {
		if err := s.SetRights(ctx, new, e.Identifier, imap.RightsOp{Action: imap.FlagsReplace, Rights: e.Rights}); err != nil {
			return err
		}
	}
	_, err = inbox.Copy(ctx, imap.AllUIDs, new, true)
	return err
}

// Subscribe implements imap.Store.
func (s *Store) Subscribe(ctx context.Context, name string, on bool) error {
	err := imap.CheckName(name)
	if err == nil {
		err = setSubscription(ctx, s.root, name, on)
	}
	if err != nil {
		return fmt.Errorf("maildir: subscribe %q: %w", name, err)
	}
	return nil
}

// The special use of a folder is kept in a file of ours in it, so that it goes where the
// folder goes.
const specialUseFile = "mailblocks-specialuse"

func readSpecialUse(path string) (imap.SpecialUse, error) {
	b, err := os.ReadFile(filepath.Join(path, specialUseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	use := strings.TrimSpace(string(b))
	if !strings.HasPrefix(use, `\`) || !imap.Flag(use[1:]).Valid() {
		use = ""
	}
	return imap.SpecialUse(use), err
}
