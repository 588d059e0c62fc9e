package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// A Dir is the path of one Maildir: a folder with cur, new and tmp in it. Its methods keep
// no state, so that any number of programs may work on it at once.
type Dir string

// Init makes the folder and its three parts where they are missing.
func (d Dir) Init() error {
	for _, sub := range []string{"tmp", "new", "cur"} { // cur last: it is what makes it a Maildir
		if err := atomicfile.MkdirAll(filepath.Join(string(d), sub), 0o700); err != nil {
			return fmt.Errorf("maildir: make %s: %w", d, err)
		}
	}
	return nil
}

// A Ref is where one message stood when it was listed: another program may rename it (new
// flags, out of new/) or remove it at any moment.
type Ref struct {
	Name Name
	New  bool // in new/: no program has looked at it
}

func (d Dir) path(r Ref) string { return filepath.Join(string(d), d.within(r)) }

// dir is 0 in new/ and 1 in cur/.
func (r Ref) dir() int {
	if r.New {
		return 0
	}
	return 1
}

// within is the path relative to the folder.
func (d Dir) within(r Ref) string {
	if r.New {
		return "new/" + r.Name.String()
	}
	return "cur/" + r.Name.String()
}

// Deliver stores the message read from r, as it is, and returns where. When it returns nil,
// the message survives a power cut; until then no reader sees it. A message without flags
// goes to new/, others to cur/. Fails without a trace when r fails or ctx ends.
func (d Dir) Deliver(ctx context.Context, r io.Reader, flags string) (Ref, error) {
	base, err := d.Stage(ctx, r)
	if err != nil {
		return Ref{}, err
	}
	ref, err := d.Commit(base, flags)
	if err != nil {
		d.Discard(base)
	}
	return ref, err
}

// Stage is the first half of Deliver: the message is on disk, in tmp/, where no reader looks,
// under the base name returned. Who notes that name before Commit can tell after a crash
// whether the message was delivered: Commit then reports fs.ErrNotExist. What is staged and
// not committed within 36 hours is removed by CleanTmp.
func (d Dir) Stage(ctx context.Context, r io.Reader) (base string, err error) {
	f, err := d.write(ctx, r, time.Time{})
	if err != nil {
		return "", err
	}
	return f.base(), nil
}

// Commit is the second half of Deliver.
func (d Dir) Commit(base, flags string) (Ref, error) {
	ref := Ref{Name: Name{Base: base}, New: flags == ""}
	if flags != "" {
		ref.Name = ref.Name.WithFlags(flags)
	}
	err := checkBase(base)
	if err == nil {
		err = disk.Rename(d.staged(base), d.path(ref))
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(d.path(ref)))
	}
	if err != nil {
		return Ref{}, fmt.Errorf("maildir: deliver to %s: %w", d, err)
	}
	return ref, nil
}

// Discard removes what Stage stored and Commit did not take.
func (d Dir) Discard(base string) { _ = disk.Remove(d.staged(base)) }

func (d Dir) staged(base string) string {
	name, _, _ := strings.Cut(base, ",")
	return filepath.Join(string(d), "tmp", name)
}

// All yields the messages of new/ and cur/, in no particular order. What is not a message
// (hidden files, folders) is passed over. A message that is renamed meanwhile may be
// yielded twice or not at all.
func (d Dir) All() iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		for _, sub := range []string{"new", "cur"} {
			for file, err := range readDir(filepath.Join(string(d), sub)) {
				if err != nil {
					if !yield(Ref{}, fmt.Errorf("maildir: list %s: %w", d, err)) {
						return
					}
					continue
				}
				if !yield(Ref{ParseName(file), sub == "new"}, nil) {
					return
				}
			}
		}
	}
}

// Open opens the message. fs.ErrNotExist: it was renamed or removed since.
func (d Dir) Open(r Ref) (*os.File, error) { return openFile(d.path(r)) }

// SetFlags gives the message other flag letters and moves it out of new/. fs.ErrNotExist:
// it was renamed or removed since.
func (d Dir) SetFlags(r Ref, letters string) (Ref, error) {
	to := Ref{Name: r.Name.WithFlags(letters)}
	if to == r {
		return to, nil
	}
	return to, disk.RenameFile(d.path(r), d.path(to))
}

// Remove removes the message. fs.ErrNotExist: it was renamed or removed since.
func (d Dir) Remove(r Ref) error { return disk.Remove(d.path(r)) }

// CleanTmp removes what deliveries that died left in tmp/, once it is older than 36 hours.
func (d Dir) CleanTmp(now time.Time) error {
	tmp := filepath.Join(string(d), "tmp")
	var errs []error
	for file, err := range readDir(tmp) {
		if err != nil {
			return err
		}
		path := filepath.Join(tmp, file)
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > 36*time.Hour {
			if err := disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// readDir yields the names of the files in dir that may be messages.
func readDir(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := os.Open(dir)
		if err != nil {
			yield("", err)
			return
		}
		defer f.Close()
		for {
			entries, err := f.ReadDir(1024)
			for _, e := range entries {
				if name := e.Name(); !strings.HasPrefix(name, ".") && !e.IsDir() {
					if !yield(name, nil) {
						return
					}
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield("", err)
				return
			}
		}
	}
}

// tmpFile is a message on its way: complete and synced, in tmp/.
type tmpFile struct {
	path     string
	unique   string
	size     int64
	crlfSize int64
}

// base is the name that carries the file's sizes, which are exact.
func (f tmpFile) base() string { return fmt.Sprintf("%s,S=%d,W=%d", f.unique, f.size, f.crlfSize) }

// write stores r in tmp/ and syncs it. A date that is not zero becomes the file's.
func (d Dir) write(ctx context.Context, r io.Reader, date time.Time) (t tmpFile, err error) {
	t.unique = unique(time.Now())
	t.path = filepath.Join(string(d), "tmp", t.unique)
	f, err := disk.OpenFile(t.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return t, fmt.Errorf("maildir: deliver to %s: %w", d, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			disk.Remove(t.path)
			err = fmt.Errorf("maildir: deliver to %s: %w", d, err)
		}
	}()
	var count crlfCounter
	if t.size, err = io.Copy(io.MultiWriter(f, &count), contextReader{ctx, r}); err != nil {
		return t, err
	}
	t.crlfSize = t.size + count.bare
	if !date.IsZero() {
		if err = disk.Chtimes(t.path, date); err != nil {
			return t, err
		}
	}
	if err = f.Sync(); err != nil {
		return t, err
	}
	return t, f.Close()
}

// contextReader ends a long copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
