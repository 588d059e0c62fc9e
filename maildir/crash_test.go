package maildir

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/disk/disktest"
)

// seenMessage is what a client knows of a message.
type seenMessage struct {
	body  string
	flags string
	date  int64
	id    string
}

// seenBox is what a client knows of a mailbox.
type seenBox struct {
	name    string
	next    imap.UID
	highest imap.ModSeq
	msgs    map[imap.UID]seenMessage
}

// seenTree is what a client knows, by UIDVALIDITY, which is a mailbox's name for life.
type seenTree map[uint32]seenBox

var quiet = slog.New(slog.DiscardHandler)

func look(t *testing.T, s *Store) (seenTree, error) {
	tree := make(seenTree)
	for info, err := range s.Mailboxes(t.Context()) {
		if err != nil {
			return nil, err
		}
		if info.NoSelect {
			continue
		}
		box, err := s.Open(t.Context(), info.Name)
		if err != nil {
			return nil, err
		}
		defer box.Close()
		d, err := box.Changes(t.Context(), 0)
		if err != nil {
			return nil, err
		}
		seen := seenBox{info.Name, d.State.UIDNext, d.State.HighestModSeq, make(map[imap.UID]seenMessage)}
		for m, err := range d.Messages {
			if err != nil {
				return nil, err
			}
			b, err := box.Body(t.Context(), m.UID)
			if err != nil {
				return nil, err
			}
			text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
			b.Close()
			if err != nil {
				return nil, err
			}
			seen.msgs[m.UID] = seenMessage{string(text), m.Flags.String(), m.InternalDate.Unix(), m.ID}
		}
		if tree[d.State.UIDValidity].msgs != nil {
			return nil, fmt.Errorf("%s and %s have one UIDVALIDITY", info.Name, tree[d.State.UIDValidity].name)
		}
		tree[d.State.UIDValidity] = seen
	}
	return tree, nil
}

// crashStep is one call of the workload.
type crashStep struct {
	name string
	do   func(t *testing.T, s *Store) error
}

func text(n int) string {
	return fmt.Sprintf("Subject: %d\r\n\r\nbody %s\r\n", n, strings.Repeat("x", 20*n))
}

func inbox(do func(t *testing.T, box *mailbox) error) func(t *testing.T, s *Store) error {
	return in(imap.Inbox, do)
}

func in(name string, do func(t *testing.T, box *mailbox) error) func(t *testing.T, s *Store) error {
	return func(t *testing.T, s *Store) error {
		box, err := s.Open(t.Context(), name)
		if err != nil {
			return err
		}
		defer box.Close()
		return do(t, box.(*mailbox))
	}
}

func appending(flags imap.Flags, numbers ...int) func(t *testing.T, box *mailbox) error {
	return func(t *testing.T, box *mailbox) error {
		var msgs []imap.NewMessage
		for _, n := range numbers {
			msgs = append(msgs, imap.NewMessage{Flags: flags, InternalDate: time.Unix(1_600_000_000+int64(n), 0), Body: strings.NewReader(text(n))})
		}
		_, err := box.Append(t.Context(), msgs)
		return err
	}
}

func flagging(set imap.UIDSet, op imap.FlagOp) func(t *testing.T, box *mailbox) error {
	return func(t *testing.T, box *mailbox) error {
		_, err := box.SetFlags(t.Context(), set, op, 0)
		return err
	}
}

func copying(set imap.UIDSet, dst string, move bool) func(t *testing.T, box *mailbox) error {
	return func(t *testing.T, box *mailbox) error {
		_, err := box.Copy(t.Context(), set, dst, move)
		return err
	}
}

func expunging(set imap.UIDSet) func(t *testing.T, box *mailbox) error {
	return func(t *testing.T, box *mailbox) error { return box.Expunge(t.Context(), set, false) }
}

func uids(list ...imap.UID) imap.UIDSet { return imap.NumSetOf(list...) }

func creating(name string) func(t *testing.T, s *Store) error {
	return func(t *testing.T, s *Store) error {
		return s.Create(t.Context(), name, &imap.CreateOptions{SpecialUse: imap.UseArchive})
	}
}

var crashSteps = []crashStep{
	{"open", inbox(func(t *testing.T, box *mailbox) error { _, err := box.State(t.Context()); return err })},
	{"append", inbox(appending(imap.Flags{}, 1))},
	{"append with flags", inbox(appending(imap.NewFlags(imap.FlagSeen, "work"), 2))},
	{"append three", inbox(appending(imap.NewFlags(imap.FlagFlagged), 3, 4, 5))},
	{"flags", inbox(flagging(uids(2), imap.FlagOp{Action: imap.FlagsAdd, Flags: imap.NewFlags(imap.FlagAnswered)}))},
	{"a new keyword", inbox(flagging(uids(1, 3), imap.FlagOp{Action: imap.FlagsAdd, Flags: imap.NewFlags("new")}))},
	{"deliver", func(t *testing.T, s *Store) error {
		_, err := Dir(s.root).Deliver(t.Context(), strings.NewReader(text(6)), "")
		return err
	}},
	{"see the delivery", inbox(func(t *testing.T, box *mailbox) error { _, err := box.State(t.Context()); return err })},
	{"claim recent", inbox(func(t *testing.T, box *mailbox) error { _, err := box.ClaimRecent(t.Context()); return err })},
	{"create", creating("Work")},
	{"subscribe", func(t *testing.T, s *Store) error { return s.Subscribe(t.Context(), "Work", true) }},
	{"create a child", creating("Work/Sub")},
	{"copy two", inbox(copying(uids(2, 3), "Work", false))},
	{"move two", inbox(copying(uids(4, 5), "Work", true))},
	{"move within", in("Work", copying(uids(1), "Work", true))},
	{"expunge", inbox(expunging(uids(1, 2)))},
	{"append behind", inbox(appending(imap.Flags{}, 7))},
	{"rename", func(t *testing.T, s *Store) error { return s.Rename(t.Context(), "Work", "Archive") }},
	{"append there", in("Archive", appending(imap.Flags{}, 8, 9))},
	{"rewrite the lists", inbox(func(t *testing.T, box *mailbox) error {
		return box.change(t.Context(), "rewrite", func(f *folder) error {
			f.compactUIDs()
			return f.writeIndex(f.forgotten())
		})
	})},
	{"append after", inbox(appending(imap.Flags{}, 10))},
	{"expunge the last", inbox(expunging(uids(8)))},
	{"create another", creating("Temp")},
	{"fill it", in("Temp", appending(imap.Flags{}, 11))},
	{"delete it", func(t *testing.T, s *Store) error { return s.Delete(t.Context(), "Temp") }},
	{"rename the Inbox", func(t *testing.T, s *Store) error { return s.Rename(t.Context(), imap.Inbox, "Old") }},
	{"append to it", inbox(appending(imap.Flags{}, 12))},
}

// memoryDir is a folder where a sync costs nothing, if there is one.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "maildir")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A power cut at any change of a file or folder leaves each mailbox as it was before the call
// in flight or as it is after it: what was acknowledged is there, under its UID; no UID that
// a client saw stands for another message. Only flags and expunges, which are not synced, may
// be as they were earlier.
func TestPowerCut(t *testing.T) {
	dir := memoryDir(t)
	root := filepath.Join(dir, "mail")
	require.NoError(t, os.Mkdir(root, 0o700))
	rec := disktest.Record(t, root)
	ends, trees := []int{}, []seenTree{}
	s, err := Open(root, &Options{Logger: quiet})
	require.NoError(t, err)
	ends = append(ends, rec.Len())
	trees = append(trees, seenTree{})
	for _, step := range crashSteps {
		require.NoError(t, step.do(t, s), step.name)
		ends = append(ends, rec.Len())
		tree, err := look(t, s)
		require.NoError(t, err)
		trees = append(trees, tree)
		ends[len(ends)-1] = rec.Len() // looking writes too, where a mailbox is new
	}
	rec.Stop()
	ways := 6
	if os.Getenv("MAILBLOCKS_CRASHES") == "all" {
		ways = 0
	}
	for i, step := range crashSteps {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			first, after := ends[i], filepath.Join(dir, fmt.Sprint("after", i))
			if i == 0 {
				first = 0
			}
			shown := rec.Crashes(t, after, first, ends[i+1], ways, func(n int, what string) {
				if err := checkCrash(t, after, trees[:i+2]); err != nil {
					t.Errorf("power cut behind change %d, %s: %v", n, what, err)
				}
			})
			t.Logf("%d changes, %d disks", ends[i+1]-first, shown)
		})
	}
}

// checkCrash opens what was left. The last of trees is what the call in flight was to make.
func checkCrash(t *testing.T, root string, trees []seenTree) error {
	before, after := trees[len(trees)-2], trees[len(trees)-1]
	s, err := Open(root, &Options{Logger: quiet})
	if err != nil {
		return err
	}
	got, err := look(t, s)
	if err != nil {
		return err
	}
	for validity, was := range before {
		is, there := got[validity]
		will, stays := after[validity]
		switch {
		case !there && stays:
			return fmt.Errorf("mailbox %s is lost", was.name)
		case !there:
			continue
		case is.name != was.name && is.name != will.name:
			return fmt.Errorf("mailbox %s became %s", was.name, is.name)
		}
		if stays {
			if err := checkBox(is, was, will); err != nil {
				return fmt.Errorf("%s: %w", was.name, err)
			}
		}
	}
	for validity, is := range got {
		// What was ever known under a UID is the same message, with flags it once had.
		for uid, m := range is.msgs {
			var flags []string
			for at, tree := range trees {
				if old, ok := tree[validity].msgs[uid]; ok {
					told := at < len(trees)-1
					if told && (old.body != m.body || old.id != m.id || old.date != m.date) {
						return fmt.Errorf("%s: UID %d was %+v, is %+v", is.name, uid, old, m)
					}
					if told || old.body == m.body {
						flags = append(flags, old.flags)
					}
				}
			}
			if len(flags) > 0 && !slices.Contains(flags, m.flags) {
				return fmt.Errorf("%s: UID %d has flags %s", is.name, uid, m.flags)
			}
		}
		box, err := s.Open(t.Context(), is.name)
		if err != nil {
			return err
		}
		if was, ok := before[validity]; ok {
			if err := checkDelta(t, box, is, was, after[validity]); err != nil {
				return fmt.Errorf("%s: %w", is.name, err)
			}
		}
		res, err := box.Append(t.Context(), []imap.NewMessage{{Body: strings.NewReader("after\r\n")}})
		if err != nil {
			return err
		}
		box.Close()
		for _, tree := range trees[:len(trees)-1] {
			if next := tree[validity].next; res.UIDs[0] < next {
				return fmt.Errorf("%s: UID %d is given out, UIDNEXT was %d", is.name, res.UIDs[0], next)
			}
		}
	}
	return nil
}

// checkDelta checks that who knew the mailbox as it was learns of all that is different now, but
// for flags that the power cut took back.
func checkDelta(t *testing.T, box imap.Mailbox, is, was, will seenBox) error {
	d, err := box.Changes(t.Context(), was.highest)
	if errors.Is(err, imap.ErrTooOld) {
		return nil
	}
	if err != nil {
		return err
	}
	told := make(map[imap.UID]bool)
	for m, err := range d.Messages {
		if err != nil {
			return err
		}
		told[m.UID] = true
	}
	for uid, m := range is.msgs {
		old, known := was.msgs[uid]
		if !told[uid] && (!known || old.flags != m.flags && will.msgs[uid].flags == m.flags) {
			return fmt.Errorf("nothing is told of UID %d: was %+v, is %+v", uid, old, m)
		}
	}
	for uid := range was.msgs {
		if _, there := is.msgs[uid]; !there && !d.Gone.Contains(uid) {
			return fmt.Errorf("not told that UID %d has gone", uid)
		}
	}
	return nil
}

func checkBox(is, was, will seenBox) error {
	for uid, m := range was.msgs {
		_, stays := will.msgs[uid]
		if _, there := is.msgs[uid]; !there && stays {
			return fmt.Errorf("UID %d is lost: %+v", uid, m)
		}
	}
	bodies := make(map[string]int)
	for uid, m := range is.msgs {
		bodies[m.body]++
		same := func(other seenMessage) bool { return m.body == other.body }
		if !slices.ContainsFunc(slices.Collect(maps.Values(was.msgs)), same) && !slices.ContainsFunc(slices.Collect(maps.Values(will.msgs)), same) {
			return fmt.Errorf("UID %d is back: %+v", uid, m)
		}
	}
	var came, missing []imap.UID
	for uid, m := range will.msgs {
		if _, old := was.msgs[uid]; old {
			continue
		}
		same := func(old seenMessage) bool { return old.body == m.body }
		if slices.ContainsFunc(slices.Collect(maps.Values(was.msgs)), same) {
			continue // a copy of one that is there
		}
		if bodies[m.body] > 0 {
			came = append(came, uid)
		} else {
			missing = append(missing, uid)
		}
		if bodies[m.body] > 1 {
			return fmt.Errorf("UID %d is there %d times", uid, bodies[m.body])
		}
	}
	if len(came) > 0 && len(missing) > 0 {
		return fmt.Errorf("of what came together UIDs %d are there, %d not", came, missing)
	}
	return nil
}
