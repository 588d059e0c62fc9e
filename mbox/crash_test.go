//go:build unix

package mbox

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// A platter is a disk as it may be found after a crash: what was synced is there, and of the rest
// any part of any write, any change of a length, any name made, replaced or removed.
type platter struct {
	now, durable map[string]*inode
	names        []diskOp // not synced
}

type inode struct {
	synced  []byte
	pending []diskOp
}

func do(data []byte, op diskOp) []byte {
	end := op.off
	if op.kind == "write" {
		end += int64(len(op.data))
	}
	if grow := end - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	if op.kind == "truncate" {
		return data[:op.off]
	}
	copy(data[op.off:], op.data)
	return data
}

func (p *platter) play(op diskOp) {
	node := p.now[op.path]
	switch op.kind {
	case "create":
		if node == nil {
			p.now[op.path] = &inode{}
			op.data = nil
			p.names = append(p.names, op)
		} else {
			node.pending = append(node.pending, diskOp{kind: "truncate"})
		}
	case "write", "truncate":
		node.pending = append(node.pending, op)
	case "sync":
		for _, op := range node.pending {
			node.synced = do(node.synced, op)
		}
		node.pending = nil
	case "rename":
		p.now[op.to] = node
		delete(p.now, op.path)
		p.names = append(p.names, op)
	case "remove":
		delete(p.now, op.path)
		p.names = append(p.names, op)
	case "syncdir":
		p.names = slices.DeleteFunc(p.names, func(n diskOp) bool { return filepath.Dir(n.path) == op.path })
		maps.DeleteFunc(p.durable, func(path string, _ *inode) bool { return filepath.Dir(path) == op.path })
		for path, node := range p.now {
			if filepath.Dir(path) == op.path {
				p.durable[path] = node
			}
		}
	}
}

// survivor returns the files that are left: keep says of each thing not synced whether it is.
func (p *platter) survivor(keep func() bool, rnd *rand.Rand, nodes map[string]*inode) map[string][]byte {
	names := maps.Clone(p.durable)
	for _, op := range p.names {
		node := names[op.path]
		if op.kind == "create" {
			node = nodes[op.path]
		}
		if !keep() || node == nil {
			continue
		}
		delete(names, op.path)
		switch op.kind {
		case "create":
			names[op.path] = node
		case "rename":
			names[op.to] = node
		}
	}
	files := make(map[string][]byte)
	for path, node := range names {
		data := slices.Clone(node.synced)
		for _, op := range node.pending {
			switch {
			case !keep():
			case op.kind == "write" && rnd.IntN(3) == 0: // some sectors of it
				for at := 0; at < len(op.data); {
					n := min(512-int(op.off+int64(at))%512, len(op.data)-at)
					if rnd.IntN(2) == 0 {
						data = do(data, diskOp{kind: "write", off: op.off + int64(at), data: op.data[at : at+n]})
					}
					at += n
				}
			default:
				data = do(data, op)
			}
		}
		files[path] = data
	}
	return files
}

// crash plays ops up to the n'th and returns what is left.
func crash(before map[string][]byte, ops []diskOp, keep func() bool, rnd *rand.Rand) map[string][]byte {
	p := &platter{now: make(map[string]*inode), durable: make(map[string]*inode)}
	for path, data := range before {
		node := &inode{synced: slices.Clone(data)}
		p.now[path], p.durable[path] = node, node
	}
	created := make(map[string]*inode)
	for _, op := range ops {
		p.play(op)
		if op.kind == "create" {
			created[op.path] = p.now[op.path]
		}
	}
	return p.survivor(keep, rnd, created)
}

func readTree(t *testing.T, root string) map[string][]byte {
	files := make(map[string][]byte)
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[path], err = os.ReadFile(path)
		}
		return err
	}))
	return files
}

// contents returns what a mailbox holds, as text.
func contents(t *testing.T, box imap.Mailbox) string {
	t.Helper()
	d, err := box.Changes(context.Background(), 0)
	require.NoError(t, err)
	var b strings.Builder
	for m, err := range d.Messages {
		require.NoError(t, err)
		body, err := box.Body(context.Background(), m.UID)
		require.NoError(t, err)
		text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		require.NoError(t, err)
		body.Close()
		require.Len(t, text, int(m.Size))
		subject, _, _ := strings.Cut(string(text), "\r\n")
		fmt.Fprintf(&b, "%d %v %d %s %x\n", m.UID, m.Flags, m.InternalDate.Unix(), subject, crc32.ChecksumIEEE(text))
	}
	return b.String()
}

func openBox(t *testing.T, s *Store, name string) imap.Mailbox {
	t.Helper()
	box, err := s.Open(context.Background(), name)
	require.NoError(t, err)
	return box
}

func text(n int) string {
	return fmt.Sprintf("Subject: %d\r\n\r\n%s", n, strings.Repeat("line\r\n", 10+n*40))
}

func put(t *testing.T, box imap.Mailbox, from, to int, flags ...imap.Flag) {
	t.Helper()
	var msgs []imap.NewMessage
	for i := from; i < to; i++ {
		msgs = append(msgs, imap.NewMessage{Flags: imap.NewFlags(flags...), InternalDate: when.Add(time.Duration(i) * time.Hour), Body: strings.NewReader(text(i))})
	}
	_, err := box.Append(context.Background(), msgs)
	require.NoError(t, err)
}

const foreign = "From mda@example.org Sun Nov 22 12:00:00 2026\nSubject: foreign\n\nFrom another program\n\n"

// Each change is cut short by a crash at each of its steps, with any part of what was not synced
// left: the mailbox reopens to what it was before or after, and what another program appended to
// what the crash left is there, once.
func TestCrashReplay(t *testing.T) {
	ctx := context.Background()
	set := func(t *testing.T, box imap.Mailbox, uids imap.UIDSet, flags ...imap.Flag) {
		_, err := box.SetFlags(ctx, uids, imap.FlagOp{Flags: imap.NewFlags(flags...)}, 0)
		require.NoError(t, err)
	}
	expunge := func(uids ...imap.UID) func(*testing.T, imap.Mailbox) {
		return func(t *testing.T, box imap.Mailbox) {
			require.NoError(t, box.Expunge(ctx, imap.NumSetOf(uids...), false))
		}
	}
	for name, act := range map[string]func(*testing.T, imap.Mailbox){
		"append":         func(t *testing.T, box imap.Mailbox) { put(t, box, 7, 8) },
		"append several": func(t *testing.T, box imap.Mailbox) { put(t, box, 7, 10, imap.FlagSeen, "word") },
		"flags in place": func(t *testing.T, box imap.Mailbox) {
			set(t, box, imap.NumSetOf[imap.UID](2, 4), imap.FlagSeen, imap.FlagFlagged)
		},
		"flags of all": func(t *testing.T, box imap.Mailbox) { set(t, box, imap.AllUIDs, imap.FlagDeleted) },
		"keyword":      func(t *testing.T, box imap.Mailbox) { set(t, box, imap.NumSetOf[imap.UID](3), "short") },
		"long keyword": func(t *testing.T, box imap.Mailbox) {
			set(t, box, imap.NumSetOf[imap.UID](3), imap.Flag(strings.Repeat("long", 30)))
		},
		"expunge first":   expunge(1),
		"expunge middle":  expunge(3),
		"expunge last":    expunge(5),
		"expunge several": expunge(1, 3, 5),
		"expunge all":     expunge(1, 2, 3, 4, 5),
		"copy": func(t *testing.T, box imap.Mailbox) {
			_, err := box.Copy(ctx, imap.NumSetOf[imap.UID](2, 3), "other", false)
			require.NoError(t, err)
		},
		"move": func(t *testing.T, box imap.Mailbox) {
			_, err := box.Copy(ctx, imap.NumSetOf[imap.UID](1, 3), "other", true)
			require.NoError(t, err)
		},
		"recent": func(t *testing.T, box imap.Mailbox) {
			_, err := imap.Recent(ctx, box, true)
			require.NoError(t, err)
		},
		"what others appended": func(t *testing.T, box imap.Mailbox) { contents(t, box) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			root = filepath.Join(root, "mail")
			opts := &Options{apart: true, Location: time.UTC, disk: &disk{}}
			s, err := Open(root, opts)
			require.NoError(t, err)
			require.NoError(t, s.Create(ctx, "other", nil))
			box, other := openBox(t, s, imap.Inbox), openBox(t, s, "other")
			put(t, box, 0, 5)
			put(t, other, 5, 7)
			old := [2]string{contents(t, box), contents(t, other)}
			if name == "what others appended" {
				appendForeign(t, filepath.Join(root, inboxFile))
			}
			files := readTree(t, root)
			info, err := os.Stat(filepath.Join(root, inboxFile))
			require.NoError(t, err)
			var ops []diskOp
			s.opts.disk.trace = func(op diskOp) { ops = append(ops, op) }
			act(t, box)
			s.opts.disk.trace = nil
			new := [2]string{contents(t, box), contents(t, other)}
			after := readTree(t, root)
			require.NoError(t, box.Close())
			require.NoError(t, other.Close())
			require.NotEmpty(t, ops)

			seed := rand.Uint64()
			rnd := rand.New(rand.NewPCG(seed, 1))
			tries := 0
			for n := range len(ops) + 1 {
				for variant := range 8 {
					keep := func() bool { return variant == 1 || variant > 1 && rnd.IntN(2) == 0 }
					left := crash(files, ops[:n], keep, rnd)
					where := fmt.Sprintf("seed %d: crash after %d of %d operations, variant %d", seed, n, len(ops), variant)
					synced := slices.ContainsFunc(ops[:n], func(op diskOp) bool { return op.kind == "sync" && op.path == filepath.Join(root, inboxFile) })
					replay(t, root, left, after, old, new, n == len(ops), variant, info.ModTime(), synced, where)
					tries++
				}
			}
			t.Logf("%d operations, %d crashes", len(ops), tries)
		})
	}
}

func appendForeign(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString(foreign)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func replay(t *testing.T, root string, left, after map[string][]byte, old, new [2]string, done bool, variant int, modified time.Time, synced bool, where string) {
	dir := t.TempDir()
	ctx := context.Background()
	for path, data := range left {
		if strings.HasSuffix(path, indexSuffix) { // never synced: the old one, the new one, or none
			switch {
			case variant%3 == 1 && done: // it is written last
				data = after[path]
			case variant%3 == 2:
				continue
			}
		}
		rel, err := filepath.Rel(root, path)
		require.NoError(t, err)
		to := filepath.Join(dir, rel)
		require.NoError(t, os.WriteFile(to, data, 0o600))
	}
	inbox := filepath.Join(dir, inboxFile)
	appended := variant >= 5
	if !synced { // so that the old index takes it for what it was
		require.NoError(t, os.Chtimes(inbox, time.Time{}, modified))
	}
	if appended {
		appendForeign(t, inbox)
	}
	s, err := Open(dir, &Options{apart: true, Location: time.UTC})
	require.NoError(t, err)
	box, other := openBox(t, s, imap.Inbox), openBox(t, s, "other")
	defer box.Close()
	defer other.Close()
	got := [2]string{contents(t, box), contents(t, other)}
	if appended {
		var found int
		got[0], found = cut(got[0], `Subject: foreign`)
		require.Equal(t, 1+strings.Count(new[0], "Subject: foreign"), found, "%s: what another program appended", where)
		old[0], _ = cut(old[0], `Subject: foreign`)
		new[0], _ = cut(new[0], `Subject: foreign`)
	}
	for i := range got {
		require.Contains(t, []string{old[i], new[i]}, got[i], where)
	}
	require.False(t, got[0] == new[0] && old[0] != new[0] && got[1] != new[1], "%s: moved away and not arrived", where)
	if done {
		require.Equal(t, new, got, where)
	}
	matches, err := filepath.Glob(filepath.Join(dir, ".*mbox-redo"))
	require.NoError(t, err)
	require.Empty(t, matches, where)
	if variant%5 != 0 {
		return
	}
	state, err := box.State(ctx)
	require.NoError(t, err)
	put(t, box, 20, 21)
	d, err := box.Changes(ctx, 0)
	require.NoError(t, err)
	var last imap.UID
	for m := range d.Messages {
		last = m.UID
	}
	require.GreaterOrEqual(t, last, state.UIDNext, where)
	require.Greater(t, last, imap.UID(5), "%s: a UID is used again", where)
}

// cut takes the lines with word in them out of text.
func cut(text, word string) (string, int) {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			n++
		} else {
			b.WriteString(line)
		}
	}
	return b.String(), n
}
