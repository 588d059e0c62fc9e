package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// maildirsize in the root, as Courier and Dovecot keep it (Maildir++):
//
//	file   = limits LF *( octets SP count LF )
//	limits = limit *( "," limit )
//	limit  = number ( "S" / "C" )              octets, messages; 0 is no limit
//
// The use of the tree is the sum of all lines. Whoever adds or removes messages appends a line;
// lines go in by one write each. The file is made anew from the names of all messages when it
// is damaged, when it grew to 5120 octets, when the sum is negative, and when a message does
// not fit by it while it is more than one line or 15 minutes old: other programs may have
// removed mail without saying so.
//
// We append the line before the messages come in, and look at the sum after that: of two who
// fill the last room at once, at most one gets it. While they wait to come in they stand in tmp/,
// and are counted there when the file is made anew; one that comes in at that very moment may be
// counted twice. That, and the line too many that a crash between leaves, is put right when the
// file is next made anew.
const maildirSizeFile = "maildirsize"

const (
	maxMaildirSize = 5120
	maildirSizeAge = 15 * time.Minute
)

// QuotaLimits are limits of a tree. Zero is no limit.
type QuotaLimits struct {
	Octets   int64
	Messages int64
}

// usage is a number of messages and their octets.
type usage struct{ octets, messages int64 }

func (u usage) minus() usage { return usage{-u.octets, -u.messages} }

func (u usage) plus(v usage) usage { return usage{u.octets + v.octets, u.messages + v.messages} }

// fits reports whether u is within the limits.
func (l QuotaLimits) fits(u usage) bool {
	return (l.Octets == 0 || u.octets <= l.Octets) && (l.Messages == 0 || u.messages <= l.Messages)
}

// sizeFile is what maildirsize says.
type sizeFile struct {
	limits QuotaLimits
	used   usage
	lines  int
	info   fs.FileInfo // of the file read
	age    time.Duration
	sound  bool // it need not be made anew
}

// quota keeps the maildirsize of a tree.
type quota struct {
	root string
	opts *Options
}

func (s *Store) quota() quota  { return quota{s.root, &s.opts} }
func (f *folder) quota() quota { return quota{f.root, f.opts} }

func (q quota) path() string { return filepath.Join(q.root, maildirSizeFile) }

// read returns what the file says; without one, the limits of the options.
func (q quota) read() (s sizeFile, err error) {
	f, err := os.Open(q.path())
	if errors.Is(err, fs.ErrNotExist) {
		s.limits = q.opts.Quota
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return s, err
	}
	b := make([]byte, maxMaildirSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && n < int(min(info.Size(), maxMaildirSize)) {
		return s, err
	}
	s, ok := parseSizeFile(string(b[:n]))
	s.info = info
	s.age = q.opts.now().Sub(info.ModTime())
	s.sound = ok && n < maxMaildirSize && s.used.octets >= 0 && s.used.messages >= 0
	return s, nil
}

// parseSizeFile returns limits and sums, and whether each line made sense. Of a line that does
// not, and of what follows it, nothing is taken.
func parseSizeFile(text string) (s sizeFile, ok bool) {
	header, rest, _ := strings.Cut(text, "\n")
	for limit := range strings.SplitSeq(strings.TrimSpace(header), ",") {
		if limit == "" {
			return s, false
		}
		n, err := strconv.ParseInt(limit[:len(limit)-1], 10, 63)
		switch kind := limit[len(limit)-1]; {
		case err != nil || n < 0:
			return s, false
		case kind == 'S':
			s.limits.Octets = n
		case kind == 'C':
			s.limits.Messages = n
		}
	}
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.HasSuffix(line, "\n") {
			return s, false
		}
		octets, err1 := strconv.ParseInt(fields[0], 10, 62)
		messages, err2 := strconv.ParseInt(fields[1], 10, 62)
		if err1 != nil || err2 != nil {
			return s, false
		}
		s.used.octets += octets
		s.used.messages += messages
		s.lines++
	}
	return s, s.lines > 0
}

// add notes that messages come, which are staged in tmp/, or with negative numbers that they
// have gone. When they may not come because there is no room, nothing is noted and ErrOverQuota
// returned. A tree without limits has no notes.
func (q quota) add(ctx context.Context, delta usage, forced bool) error {
	s, err := q.read()
	if err != nil || s.limits == (QuotaLimits{}) || delta == (usage{}) {
		return err
	}
	if s.sound {
		if !forced && s.lines == 1 && s.age <= maildirSizeAge && !s.limits.fits(s.used.plus(delta)) {
			return imap.ErrOverQuota
		}
		noted, err := q.note(delta)
		if err != nil {
			return err
		}
		// A file that was made anew just now may lack our line: it says nothing.
		if s, err = q.read(); err != nil || forced || os.SameFile(noted, s.info) && s.limits.fits(s.used) {
			return err
		}
	}
	if forced {
		delta = usage{}
	}
	_, err = q.recount(ctx, s.limits, delta)
	return err
}

// note appends a line. It returns which file got it, nil when there is none.
func (q quota) note(u usage) (info fs.FileInfo, err error) {
	f, err := disk.OpenFile(q.path(), os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // removed to be counted anew
	}
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		_, err = fmt.Fprintf(f, "%d %d\n", u.octets, u.messages)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return info, err
}

// recount makes the file anew. When there is no room for what is staged, it is left out, and
// ErrOverQuota returned.
func (q quota) recount(ctx context.Context, limits QuotaLimits, staged usage) (s sizeFile, err error) {
	lock, err := lockFile(ctx, q.path())
	if err != nil {
		return s, err
	}
	defer lock.Unlock()
	over := error(nil)
	for range 3 {
		old, err := os.Open(q.path())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		defer old.Close() // nil is harmless
		known := fileSize(old)
		before, err := q.moved()
		if err != nil {
			return s, err
		}
		used, err := q.count(ctx, before)
		if err != nil {
			return s, err
		}
		if over = nil; staged != (usage{}) && !limits.fits(used) {
			used, over = used.plus(staged.minus()), imap.ErrOverQuota
		}
		s = sizeFile{limits: limits, used: used, lines: 1, sound: true}
		b := fmt.Appendf(nil, "%dS,%dC\n%d %d\n", limits.Octets, limits.Messages, used.octets, used.messages)
		if err := atomicfile.Write(q.path(), b, 0o600); err != nil {
			return s, err
		}
		if late := lateNotes(old, known); late != (usage{}) {
			if _, err := q.note(late); err != nil {
				return s, err
			}
		}
		lock.Touch()
		// What came or went while we counted may be in it or not.
		if after, err := q.moved(); err == nil && same(before, after) {
			break
		}
	}
	return s, over
}

func fileSize(f *os.File) int64 {
	if f == nil {
		return 0
	}
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// lateNotes sums up what was noted to come since the file had the given size: it may not have
// been there to be counted.
func lateNotes(f *os.File, since int64) (late usage) {
	if f == nil {
		return late
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, since, maxMaildirSize))
	for line := range strings.Lines(string(b)) {
		if s, ok := parseSizeFile("0S\n" + line); ok && s.used.messages > 0 {
			late = late.plus(s.used)
		}
	}
	return late
}

// moved returns when each folder of messages was last changed.
func (q quota) moved() (map[string]time.Time, error) {
	st := Store{root: q.root}
	tree, err := st.tree()
	if err != nil {
		return nil, err
	}
	tree[imap.Inbox] = q.root
	times := make(map[string]time.Time)
	for _, path := range tree {
		for _, sub := range []string{"new", "cur"} {
			dir := filepath.Join(path, sub)
			if info, err := os.Stat(dir); err == nil {
				times[dir] = info.ModTime()
			}
		}
	}
	return times, nil
}

func same(a, b map[string]time.Time) bool {
	if len(a) != len(b) {
		return false
	}
	for dir, t := range a {
		if !b[dir].Equal(t) {
			return false
		}
	}
	return true
}

// count counts the messages in folders, and those on their way: these first, so that one that
// comes in meanwhile counts twice rather than not at all.
func (q quota) count(ctx context.Context, dirs map[string]time.Time) (u usage, err error) {
	oldest := time.Now().Add(-maildirSizeAge).Unix() // by the clock that names are made with
	for dir := range dirs {
		if filepath.Base(dir) != "cur" {
			continue
		}
		tmp := filepath.Join(filepath.Dir(dir), "tmp")
		for file, err := range readDir(tmp) {
			if sec, _ := deliveryTime(file); err == nil && sec > oldest {
				if info, err := os.Stat(filepath.Join(tmp, file)); err == nil {
					u = u.plus(usage{info.Size(), 1})
				}
			}
		}
	}
	for dir := range dirs {
		for file, err := range readDir(dir) {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return u, err
			}
			size, ok := ParseName(file).Size()
			if !ok {
				info, err := os.Stat(filepath.Join(dir, file))
				if err != nil {
					continue // renamed just now
				}
				size = info.Size()
			}
			u = u.plus(usage{size, 1})
		}
		if ctx.Err() != nil {
			return u, ctx.Err()
		}
	}
	return u, nil
}

// usage is what an arrival brings.
func (a *arrival) usage() (u usage) {
	for _, file := range a.files {
		octets, _ := ParseName(file.base).Size()
		u.octets += octets
	}
	u.messages = int64(len(a.files))
	return u
}

// admitted brings the files of a into the folder when there is room for them, or although there
// is none when they are moved.
func (f *folder) admitted(a *arrival, moved bool) error {
	u := a.usage()
	if err := f.quota().add(a.ctx, u, moved); err != nil {
		a.discard()
		return err
	}
	err := f.arrive(a)
	if err != nil {
		if qerr := f.quota().add(context.WithoutCancel(a.ctx), u.minus(), true); qerr != nil {
			f.opts.logger().Warn("maildirsize not written", "dir", f.root, "err", qerr)
		}
	}
	return err
}

// QuotaResources implements imap.Quotas.
func (s *Store) QuotaResources() []imap.QuotaResource {
	return []imap.QuotaResource{imap.QuotaStorage, imap.QuotaMessages}
}

// QuotaRoots implements imap.Quotas: one root, named "", has all mailboxes.
func (s *Store) QuotaRoots(context.Context, string) ([]string, error) { return []string{""}, nil }

// Quota implements imap.Quotas.
func (s *Store) Quota(ctx context.Context, root string) ([]imap.Quota, error) {
	if root != "" {
		return nil, fmt.Errorf("maildir: quota root %q: %w", root, imap.ErrNoQuotaRoot)
	}
	size, err := s.quota().read()
	if err == nil && !size.sound && size.limits != (QuotaLimits{}) {
		size, err = s.quota().recount(ctx, size.limits, usage{})
	}
	if err != nil {
		return nil, fmt.Errorf("maildir: quota of %s: %w", s.root, err)
	}
	var list []imap.Quota
	if size.limits.Octets > 0 {
		list = append(list, imap.Quota{Resource: imap.QuotaStorage, Usage: size.used.octets, Limit: size.limits.Octets})
	}
	if size.limits.Messages > 0 {
		list = append(list, imap.Quota{Resource: imap.QuotaMessages, Usage: size.used.messages, Limit: size.limits.Messages})
	}
	return list, nil
}

// SetQuota implements imap.Quotas. A limit of zero becomes one: the file has no other word for
// "nothing at all".
func (s *Store) SetQuota(ctx context.Context, root string, limits []imap.Quota) error {
	if root != "" {
		return fmt.Errorf("maildir: quota root %q: %w", root, imap.ErrNoQuotaRoot)
	}
	var l QuotaLimits
	for _, q := range limits {
		switch q.Resource {
		case imap.QuotaStorage:
			l.Octets = max(q.Limit, 1)
		case imap.QuotaMessages:
			l.Messages = max(q.Limit, 1)
		default:
			return fmt.Errorf("maildir: limit of %s: %w", q.Resource, imap.ErrLimit)
		}
	}
	if _, err := s.quota().recount(ctx, l, usage{}); err != nil {
		return fmt.Errorf("maildir: quota of %s: %w", s.root, err)
	}
	return nil
}
