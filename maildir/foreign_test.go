package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// tree is a Maildir++ tree that a test works on from outside, as other programs do.
type tree struct {
	*testing.T
	root string
	ctx  context.Context
}

func newTree(t *testing.T) tree {
	tr := tree{t, filepath.Join(t.TempDir(), "mail"), t.Context()}
	require.NoError(t, Dir(tr.root).Init())
	return tr
}

func (t tree) write(path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(t.root, path), []byte(text), 0o600))
}

func (t tree) readFile(path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(t.root, path))
	require.NoError(t, err)
	return string(b)
}

func (t tree) open(name string) *mailbox {
	t.Helper()
	s, err := Open(t.root, nil)
	require.NoError(t, err)
	box, err := s.Open(t.ctx, name)
	require.NoError(t, err)
	t.Cleanup(func() { box.Close() })
	return box.(*mailbox)
}

// list returns what a mailbox holds as "uid flags".
func (t tree) list(box imap.Mailbox) []string {
	t.Helper()
	d, err := box.Changes(t.ctx, 0)
	require.NoError(t, err)
	var list []string
	for m, err := range d.Messages {
		require.NoError(t, err)
		list = append(list, fmt.Sprintf("%d %s", m.UID, m.Flags))
	}
	return list
}

func (t tree) body(box imap.Mailbox, uid imap.UID) string {
	t.Helper()
	b, err := box.Body(t.ctx, uid)
	require.NoError(t, err)
	defer b.Close()
	text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	require.NoError(t, err)
	require.EqualValues(t, b.Size(), len(text))
	return string(text)
}

func TestForeignDelivery(t *testing.T) {
	tr := newTree(t)
	tr.write("new/1700000002.M5P1.b", "Subject: two\n\nbody\n")
	tr.write("new/1700000002.M4P9.a", "Subject: one\n\nbody\n")
	tr.write("cur/1700000001.x:2,FSZ", "Subject: zero\r\n\r\n")
	tr.write("cur/.hidden", "")
	tr.write("cur/odd:name:2,S", "Subject: odd\n\n")
	require.NoError(t, os.Mkdir(filepath.Join(tr.root, "cur", "folder"), 0o700))
	box := tr.open(imap.Inbox)
	assert.Equal(t, []string{`1 ()`, `2 (\Flagged \Seen)`, `3 ()`, `4 ()`}, tr.list(box), "order of delivery: seconds, microseconds")
	assert.Equal(t, "Subject: one\r\n\r\nbody\r\n", tr.body(box, 3))
	assert.Equal(t, "Subject: two\r\n\r\nbody\r\n", tr.body(box, 4))
	assert.FileExists(t, filepath.Join(tr.root, "new", "1700000002.M5P1.b"), "reading moves nothing out of new/")

	recent, err := imap.Recent(tr.ctx, box, true)
	require.NoError(t, err)
	assert.Equal(t, "3:4", recent.String())
	assert.FileExists(t, filepath.Join(tr.root, "cur", "1700000002.M5P1.b:2,"))
	recent, err = imap.Recent(tr.ctx, box, true)
	require.NoError(t, err)
	assert.Empty(t, recent, "claimed once")
}

func TestForeignChanges(t *testing.T) {
	tr := newTree(t)
	for i := range 3 {
		tr.write(fmt.Sprintf("cur/170000000%d.M1P1.h:2,", i), "Subject: x\n\n")
	}
	box := tr.open(imap.Inbox)
	before, err := box.State(tr.ctx)
	require.NoError(t, err)

	cur := func(name string) string { return filepath.Join(tr.root, "cur", name) }
	require.NoError(t, os.Rename(cur("1700000000.M1P1.h:2,"), cur("1700000000.M1P1.h:2,RS")))
	require.NoError(t, os.Remove(cur("1700000001.M1P1.h:2,")))
	tr.write("new/1700000009.M1P1.h", "Subject: y\n\n")

	d, err := box.Changes(tr.ctx, before.HighestModSeq)
	require.NoError(t, err)
	var changed []string
	for m, err := range d.Messages {
		require.NoError(t, err)
		changed = append(changed, fmt.Sprintf("%d %s", m.UID, m.Flags))
		assert.Greater(t, m.ModSeq, before.HighestModSeq)
	}
	assert.Equal(t, []string{`1 (\Answered \Seen)`, `4 ()`}, changed)
	assert.Equal(t, "2", d.Gone.String())

	_, err = box.Body(tr.ctx, 2)
	assert.ErrorIs(t, err, imap.ErrExpunged)
	// A file that comes back is another message: its UID was told to be gone.
	tr.write("cur/1700000001.M1P1.h:2,", "Subject: x\n\n")
	assert.Equal(t, []string{`1 (\Answered \Seen)`, `3 ()`, `4 ()`, `5 ()`}, tr.list(box))
}

// A program that renames a message between our look and our change loses nothing, and
// neither do we.
func TestRenamedUnderneath(t *testing.T) {
	tr := newTree(t)
	tr.write("new/1700000000.M1P1.h", "Subject: x\n\n")
	box := tr.open(imap.Inbox)
	require.Len(t, tr.list(box), 1)
	f := box.f
	f.mu.Lock()
	msg := f.msgs[0]
	require.NoError(t, os.Rename(filepath.Join(tr.root, "new/1700000000.M1P1.h"), filepath.Join(tr.root, "cur/1700000000.M1P1.h:2,F")))
	var flags imap.Flags
	ref, err := f.setAgain(msg, imap.FlagOp{Action: imap.FlagsAdd, Flags: imap.NewFlags(imap.FlagSeen)}, &flags)
	f.mu.Unlock()
	require.NoError(t, err)
	assert.Equal(t, "1700000000.M1P1.h:2,FS", ref.Name.String())
	assert.Equal(t, []string{`1 (\Flagged \Seen)`}, tr.list(box))
	assert.Equal(t, "Subject: x\r\n\r\n", tr.body(box, 1))
}

// What cannot be read, or is no file, hides nothing else.
func TestOddFiles(t *testing.T) {
	tr := newTree(t)
	tr.write("cur/1700000000.M1P1.h:2,", "Subject: a\n\n")
	cur := func(name string) string { return filepath.Join(tr.root, "cur", name) }
	for from, to := range map[string]string{"1700000001.loop:2,": "1700000001.loop:2,", "1700000002.dangling:2,": "nowhere", "1700000003.folder:2,": "."} {
		if err := os.Symlink(to, cur(from)); err != nil {
			t.Skip("no symbolic links here")
		}
	}
	tr.write("cur/:2,S", "no base")
	tr.write("cur/1700000004.M1P1.h:1,x", "Subject: an info we do not know\n\n")
	tr.write("cur/1700000005.M1P1.h:2,XyYS,foreign", "Subject: b\n\n")
	tr.write("new/\xff\xfe", "Subject: no UTF-8\n\n")
	tr.write("new/"+strings.Repeat("x", 255), "Subject: long\n\n")
	var log strings.Builder
	s, err := Open(tr.root, &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	box, err := s.Open(tr.ctx, imap.Inbox)
	require.NoError(t, err)
	defer box.Close()
	assert.Equal(t, []string{"1 ()", "2 ()", "3 ()", "4 ()", "5 (\\Seen unknown-24)"}, tr.list(box))
	assert.Contains(t, log.String(), "1700000001.loop", "it is told of")
	for uid := imap.UID(1); uid <= 5; uid++ {
		assert.Contains(t, tr.body(box, uid), "Subject: ")
	}
}

// A program that moves a message out of new/ in the very instant in which we change cur/ moves
// it where our listing lacks it: it keeps its UID all the same.
func TestRenamedInOurInstant(t *testing.T) {
	tr := newTree(t)
	tr.write("cur/1700000000.M1P1.h:2,", "Subject: a\n\n")
	tr.write("new/1700000001.M1P1.h", "Subject: x\n\n")
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{"new", "cur"} {
		require.NoError(t, os.Chtimes(filepath.Join(tr.root, dir), old, old))
	}
	box := tr.open(imap.Inbox)
	require.Equal(t, []string{"1 ()", "2 ()"}, tr.list(box))
	require.NoError(t, box.change(tr.ctx, "test", func(f *folder) error {
		require.NoError(t, os.Rename(filepath.Join(tr.root, "new/1700000001.M1P1.h"), filepath.Join(tr.root, "cur/1700000001.M1P1.h:2,S")))
		return nil
	}))
	tr.write("new/1700000002.M1P1.h", "Subject: y\n\n")
	require.NoError(t, os.Chtimes(filepath.Join(tr.root, "new"), old.Add(time.Minute), old.Add(time.Minute)))
	assert.Equal(t, []string{"1 ()", `2 (\Seen)`, "3 ()"}, tr.list(box))
}

// The files of a real Dovecot, with letters of its own in the UID list.
func TestDovecotFiles(t *testing.T) {
	tr := newTree(t)
	tr.write(uidListFile, "3 V1795306654 N4 G781c253a9e34026b6657000083ecc375 Xzz\n"+
		"1 W44 :1700000000.M9P1Q3.hostB,S=39\n2 Qq :1700000001.M5P1.hostA\n3 S35 :1700000002.hostC\n7 G1700000000.M9P1Q3.hostB,S=39 :1700000003.hostD\n")
	tr.write(keywordsFile, "0 $Forwarded\n2 work\n")
	tr.write("cur/1700000000.M9P1Q3.hostB,S=39:2,Sc", strings.Repeat("x", 34)+"\n\n\n\n\n")
	tr.write("cur/1700000001.M5P1.hostA:2,FSZa", "Subject: a\n\n")
	tr.write("cur/1700000003.hostD:2,k", "Subject: d\n\n")
	box := tr.open(imap.Inbox)
	assert.Equal(t, []string{`1 (\Seen work)`, `2 (\Flagged \Seen $Forwarded)`, `7 (unknown-10)`}, tr.list(box))
	state, err := box.State(tr.ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 1795306654, state.UIDValidity)
	assert.EqualValues(t, 8, state.UIDNext, "N is not exact")
	assert.Equal(t, "781c253a9e34026b6657000083ecc375", state.ID)

	_, err = box.SetFlags(tr.ctx, imap.AllUIDs, imap.FlagOp{Flags: imap.NewFlags("Work", "other")}, 0)
	require.NoError(t, err)
	assert.Equal(t, []string{`1 (\Seen other work)`, `2 (\Flagged \Seen $Forwarded other work)`, `7 (other unknown-10 work)`}, tr.list(box))
	assert.FileExists(t, filepath.Join(tr.root, "cur/1700000001.M5P1.hostA:2,FSZabc"), "unknown letters stay")
	assert.Equal(t, "0 $Forwarded\n1 other\n2 work\n10 unknown-10\n", tr.readFile(keywordsFile))

	_, err = box.Append(tr.ctx, []imap.NewMessage{{Body: strings.NewReader("Subject: new\r\n\r\n")}})
	require.NoError(t, err)
	list := tr.readFile(uidListFile)
	assert.Contains(t, list, "Xzz\n", "unknown header letters stay")
	assert.Contains(t, list, "\n2 Qq :1700000001.M5P1.hostA\n")
	assert.Regexp(t, `\n8 :\d+\.M\d+P\d+Q\d+\.[^,]+,S=16,W=16\n$`, list)
}

func TestMoreKeywordsThanLetters(t *testing.T) {
	tr := newTree(t)
	box := tr.open(imap.Inbox)
	_, err := box.Append(tr.ctx, []imap.NewMessage{{Body: strings.NewReader("x\r\n")}})
	require.NoError(t, err)
	var all []imap.Flag
	for i := range 40 {
		all = append(all, imap.Flag(fmt.Sprintf("word%02d", i)))
	}
	for half := range slices.Chunk(all, 20) {
		_, err = box.SetFlags(tr.ctx, imap.AllUIDs, imap.FlagOp{Flags: imap.NewFlags(half...)}, 0)
		require.NoError(t, err)
	}
	// Another program changes the name; what no letter stands for survives that.
	ref, err := box.f.locate(box.f.msgs[0].base)
	require.NoError(t, err)
	_, err = box.f.dir.SetFlags(ref, ref.Name.Flags()[1:]+"F")
	require.NoError(t, err)
	box.Close()

	again := tr.open(imap.Inbox)
	assert.Equal(t, []string{"1 " + imap.NewFlags(all[1:]...).With(imap.FlagFlagged).String()}, tr.list(again))
}

func TestLostIndexIsRebuilt(t *testing.T) {
	tr := newTree(t)
	box := tr.open(imap.Inbox)
	for range 3 {
		_, err := box.Append(tr.ctx, []imap.NewMessage{{Flags: imap.NewFlags(imap.FlagSeen, "k"), Body: strings.NewReader("x\r\n")}})
		require.NoError(t, err)
	}
	require.NoError(t, box.Expunge(tr.ctx, imap.NumSetOf[imap.UID](2), false))
	before, err := box.State(tr.ctx)
	require.NoError(t, err)
	want := tr.list(box)
	box.Close()
	for _, damage := range []func(){
		func() { require.NoError(t, os.Remove(filepath.Join(tr.root, indexFile))) },
		func() { tr.write(indexFile, "rubbish") },
		func() { tr.write(indexFile, "") },
	} {
		damage()
		again := tr.open(imap.Inbox)
		assert.Equal(t, want, tr.list(again))
		after, err := again.State(tr.ctx)
		require.NoError(t, err)
		assert.Equal(t, before.UIDValidity, after.UIDValidity)
		assert.Equal(t, before.UIDNext, after.UIDNext)
		assert.Greater(t, after.HighestModSeq, before.HighestModSeq, "no mod-sequence is given out twice")
		_, err = again.Changes(tr.ctx, before.HighestModSeq)
		assert.ErrorIs(t, err, imap.ErrTooOld, "what went away is not known")
		before = after
		again.Close()
	}
}

// Every cut of the index, as a crash may leave it, opens to the same messages and UIDs; a cut
// of the UID list costs the messages of the lost lines their UIDs, and nothing else.
func TestTornTails(t *testing.T) {
	tr := newTree(t)
	box := tr.open(imap.Inbox)
	for range 4 {
		_, err := box.Append(tr.ctx, []imap.NewMessage{{Flags: imap.NewFlags("k"), Body: strings.NewReader("x\r\n")}})
		require.NoError(t, err)
	}
	state, err := box.State(tr.ctx)
	require.NoError(t, err)
	box.Close()
	for _, file := range []string{indexFile, uidListFile} {
		index, list := tr.readFile(indexFile), tr.readFile(uidListFile)
		for n := range len(tr.readFile(file)) {
			tr.write(indexFile, index)
			tr.write(uidListFile, list)
			whole := 4
			if tr.write(file, tr.readFile(file)[:n]); file == uidListFile {
				whole = max(0, strings.Count(list[:n], "\n")-1)
			}
			again := tr.open(imap.Inbox)
			got := tr.list(again)
			require.Len(t, got, 4, "%s cut to %d octets", file, n)
			require.Equal(t, []string{"1 (k)", "2 (k)", "3 (k)", "4 (k)"}[:whole], got[:whole])
			for _, m := range got[whole:] {
				require.Greater(t, m, "5", "no UID is given out twice: %s cut to %d octets", file, n)
			}
			after, err := again.State(tr.ctx)
			require.NoError(t, err)
			require.Equal(t, state.UIDValidity, after.UIDValidity, "%s cut to %d octets", file, n)
			require.GreaterOrEqual(t, after.UIDNext, state.UIDNext)
			again.Close()
		}
		tr.write(indexFile, index)
		tr.write(uidListFile, list)
	}
}

// A file system gives the number of a removed file or folder to the next one made: a mailbox
// that was deleted and made again is another one all the same, and so is a list that was
// written anew.
func TestReusedInodes(t *testing.T) {
	tr := newTree(t)
	store, err := Open(tr.root, nil)
	require.NoError(t, err)
	seen := make(map[uint32]bool)
	for range 200 {
		require.NoError(t, store.Create(tr.ctx, "Work", nil))
		box, err := store.Open(tr.ctx, "Work")
		require.NoError(t, err)
		state, err := box.State(tr.ctx)
		require.NoError(t, err)
		require.False(t, seen[state.UIDValidity], "UIDVALIDITY %d was given out before", state.UIDValidity)
		seen[state.UIDValidity] = true
		require.NoError(t, store.Delete(tr.ctx, "Work"))
		require.NoError(t, store.Create(tr.ctx, "Work", nil))
		_, err = box.State(tr.ctx)
		require.ErrorIs(t, err, imap.ErrNoMailbox)
		again, err := store.Open(tr.ctx, "Work")
		require.NoError(t, err)
		state, err = again.State(tr.ctx)
		require.NoError(t, err)
		require.False(t, seen[state.UIDValidity], "UIDVALIDITY %d was given out before", state.UIDValidity)
		seen[state.UIDValidity] = true
		require.NoError(t, again.Close())
		require.NoError(t, box.Close())
		require.NoError(t, store.Delete(tr.ctx, "Work"))
	}
}

// What a folder holds open while it is open is closed with it.
func TestDescriptors(t *testing.T) {
	count := func() int {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("descriptors are counted in /proc")
		}
		return len(open)
	}
	tr := newTree(t)
	store, err := Open(tr.root, nil)
	require.NoError(t, err)
	before := count()
	for i := range 50 {
		name := fmt.Sprint("box", i)
		require.NoError(t, store.Create(tr.ctx, name, nil))
		box, err := store.Open(tr.ctx, name)
		require.NoError(t, err)
		_, err = box.Append(tr.ctx, []imap.NewMessage{{Body: strings.NewReader("x\r\n")}})
		require.NoError(t, err)
		_, err = box.Copy(tr.ctx, imap.AllUIDs, imap.Inbox, true)
		require.NoError(t, err)
		if i%2 == 0 {
			require.NoError(t, store.Delete(tr.ctx, name))
		}
		require.NoError(t, box.Close())
	}
	assert.Less(t, count()-before, 10)
}

// The UID list is replaced twice between two looks, by one that is as long.
func TestReplacedList(t *testing.T) {
	tr := newTree(t)
	tr.write("cur/1700000000.M1P1.h:2,", "x\n")
	for i := range 100 {
		list := func(validity, uid int) {
			path := filepath.Join(tr.root, uidListFile)
			require.NoError(t, os.Remove(path))
			tr.write(uidListFile, fmt.Sprintf("3 V%d N900 G781c253a9e34026b6657000083ecc375\n%d :1700000000.M1P1.h\n", validity, uid))
		}
		box := tr.open(imap.Inbox)
		require.Len(t, tr.list(box), 1)
		list(100+i, 100+i)
		list(500+i, 500+i)
		state, err := box.State(tr.ctx)
		require.NoError(t, err)
		require.EqualValues(t, 500+i, state.UIDValidity)
		require.Equal(t, []string{fmt.Sprintf("%d ()", 500+i)}, tr.list(box))
		box.Close()
	}
}

func TestFolderNames(t *testing.T) {
	tr := newTree(t)
	for _, dir := range []string{".Work.Sub", ".Entw&APw-rfe", ".日本", "..bad", ".nocur"} {
		require.NoError(t, os.MkdirAll(filepath.Join(tr.root, dir), 0o700))
		if dir != ".nocur" {
			require.NoError(t, Dir(filepath.Join(tr.root, dir)).Init())
		}
	}
	tr.write("subscriptions", "V\t2\n\nWork\tSub\nEntw&APw-rfe\ngone\n")
	s, err := Open(tr.root, nil)
	require.NoError(t, err)
	var got []string
	for info, err := range s.Mailboxes(tr.ctx) {
		require.NoError(t, err)
		got = append(got, fmt.Sprint(info.Name, " ", info.NoSelect, " ", info.NonExistent, " ", info.Subscribed))
	}
	slices.Sort(got)
	assert.Equal(t, []string{"Entwürfe false false true", "INBOX false false false", "Work true false false",
		"Work/Sub false false true", "gone true true true", "日本 false false false"}, got)
	box, err := s.Open(tr.ctx, "日本")
	require.NoError(t, err)
	box.Close()
	require.NoError(t, s.Create(tr.ctx, "St. Mary/a.b", nil))
	assert.DirExists(t, filepath.Join(tr.root, ".St&AC4- Mary.a&AC4-b", "cur"))
	require.NoError(t, s.Subscribe(tr.ctx, "Neu/ä", true))
	assert.Equal(t, "V\t2\n\nEntw&APw-rfe\nNeu\t&AOQ-\nWork\tSub\ngone\n", tr.readFile("subscriptions"))
}

func TestStaleLock(t *testing.T) {
	tr := newTree(t)
	box := tr.open(imap.Inbox)
	require.Empty(t, tr.list(box))
	lock := filepath.Join(tr.root, uidListFile+".lock")

	// A dead process of this host: process ids end below 2^22.
	require.NoError(t, os.WriteFile(lock, []byte("999999999:"+hostname), 0o600))
	tr.write("new/1700000000.M1P1.h", "Subject: x\n\n")
	assert.Len(t, tr.list(box), 1)
	assert.NoFileExists(t, lock)

	// A living one of another host, which we wait for as long as our context allows.
	require.NoError(t, os.WriteFile(lock, []byte("1:elsewhere"), 0o600))
	tr.write("new/1700000001.M1P1.h", "Subject: x\n\n")
	ctx, cancel := context.WithTimeout(tr.ctx, 30*time.Millisecond)
	defer cancel()
	_, err := box.State(ctx)
	assert.True(t, errors.Is(err, context.DeadlineExceeded), "%v", err)
	old := time.Now().Add(-3 * time.Minute)
	require.NoError(t, os.Chtimes(lock, old, old))
	require.NoError(t, os.Chtimes(filepath.Join(tr.root, uidListFile), old, old))
	assert.Len(t, tr.list(box), 2)
}

func TestDir(t *testing.T) {
	tr := newTree(t)
	d := Dir(tr.root)
	ref, err := d.Deliver(tr.ctx, strings.NewReader("a\nb\r\n"), "")
	require.NoError(t, err)
	assert.True(t, ref.New)
	size, _ := ref.Name.Size()
	crlf, _ := ref.Name.CRLFSize()
	assert.EqualValues(t, 5, size)
	assert.EqualValues(t, 6, crlf)
	ref, err = d.SetFlags(ref, "SF")
	require.NoError(t, err)
	assert.Equal(t, "FS", ref.Name.Flags())
	for got, err := range d.All() {
		require.NoError(t, err)
		assert.Equal(t, ref, got)
	}
	require.NoError(t, d.Remove(ref))
	_, err = d.Open(ref)
	assert.ErrorIs(t, err, os.ErrNotExist)

	boom := errors.New("boom")
	_, err = d.Deliver(tr.ctx, io.MultiReader(strings.NewReader("half"), errReader{boom}), "")
	assert.ErrorIs(t, err, boom)
	left, err := os.ReadDir(filepath.Join(tr.root, "tmp"))
	require.NoError(t, err)
	assert.Empty(t, left)

	base, err := d.Stage(tr.ctx, strings.NewReader("staged\r\n"))
	require.NoError(t, err)
	for range d.All() {
		t.Error("a staged message is not visible")
	}
	ref, err = d.Commit(base, "S")
	require.NoError(t, err)
	assert.Equal(t, base, ref.Name.Base)
	_, err = d.Commit(base, "S")
	assert.ErrorIs(t, err, os.ErrNotExist, "committed before")

	tr.write("tmp/old", "x")
	tr.write("tmp/fresh", "x")
	old := time.Now().Add(-37 * time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(tr.root, "tmp/old"), old, old))
	require.NoError(t, d.CleanTmp(time.Now()))
	assert.NoFileExists(t, filepath.Join(tr.root, "tmp/old"))
	assert.FileExists(t, filepath.Join(tr.root, "tmp/fresh"))
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }
