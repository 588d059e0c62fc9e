//go:build unix

package mbox

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// taken counts what an index gives.
type taken struct{ entries, gone, stamps int }

func (t *taken) reset()                                 { *t = taken{} }
func (t *taken) takeEntry(entry)                        { t.entries++ }
func (t *taken) takeGone(goneEntry)                     { t.gone++ }
func (t *taken) takeBase(base)                          {}
func (t *taken) takeStamp(stamp, imap.UID, imap.ModSeq) { t.stamps++ }

// The records of an index: no octets make the reader fail, and what is good is read again.
func FuzzIndex(f *testing.F) {
	x := index{numbers: make(map[string]uint32)}
	e := entry{uid: 7, modSeq: 9, words: x.set([]string{"a", "b"}), date: 1, size: 2}
	x.putBase(&base{validity: 1, last: 7, keywords: []string{"a", "b"}})
	x.putEntry(&e)
	x.putGone(goneEntry{3, 4})
	x.putStamp(stamp{1, 2}, 8, 9)
	f.Add(bytes.Clone(x.buf))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, again := index{numbers: make(map[string]uint32)}, index{numbers: make(map[string]uint32)}
		var one, two taken
		require.Equal(t, first.parse(b, &one), again.parse(b, &two))
		require.Equal(t, one, two)
	})
}

// A header with our fields in it, rewritten, says what was written, hides it, and shows the rest
// as it was; once more, it changes nothing.
func FuzzStatus(f *testing.F) {
	f.Add([]byte("Status: RO\nX-Status: AF\nX-UID: 5   \nX-Keywords: a b\nSubject: x\n y\nX-Kept-Status: z\n\n"), byte(5), uint32(9))
	f.Add([]byte("X-IMAPbase: 1 0000000002 a b\nX-UID: 3\n\n"), byte(31), uint32(1))
	f.Fuzz(func(t *testing.T, header []byte, flags byte, uid uint32) {
		end := bytes.Index(header, []byte("\n\n"))
		if end < 0 || bytes.ContainsAny(header, "\r") || header[0] == '\n' || uid == 0 {
			return
		}
		header = header[:end+2]
		want := status{flags: imap.SystemFlags(flags & 31), uid: imap.UID(uid), length: -1, keywords: []string{"a", "b"}, base: &base{validity: 1, last: imap.UID(uid), keywords: []string{"a", "b"}}}
		got := rewriteHeader(header, &want)
		read := func(h []byte) status {
			s := status{length: -1}
			own := notOwn
			for line := range bytes.Lines(h) {
				if line[0] != ' ' && line[0] != '\t' {
					var value []byte
					if own, value = ownLine(line); own != notOwn {
						s.take(own, value, true)
					}
				}
			}
			return s
		}
		require.Equal(t, want, read(got))
		require.Equal(t, got, rewriteHeader(got, &want))
		var shown, was bytes.Buffer
		require.NoError(t, writeHeader(&shown, bytes.NewReader(got)))
		require.NoError(t, writeHeader(&was, bytes.NewReader(header)))
		require.Equal(t, was.String(), shown.String())
	})
}

// Any file at all: what can be opened shows sizes that are true, keeps its UIDs, and says the same
// without its index.
func FuzzStore(f *testing.F) {
	f.Add([]byte("From a@example.org Sun Nov 22 00:21:03 2026\nX-IMAPbase: 5 0000000003 k\nX-UID: 3\nX-Keywords: k\nContent-Length: 2\n\nx\n\nFrom b@example.org Sun Nov 22 00:21:03 2026\nStatus: R\n\ny\n\n"))
	f.Add([]byte("junk\nFrom a@example.org Sun Nov 22 00:21:03 2026"))
	f.Fuzz(func(t *testing.T, file []byte) {
		root := t.TempDir()
		path := filepath.Join(root, inboxFile)
		require.NoError(t, os.WriteFile(path, file, 0o600))
		s, err := Open(root, &Options{apart: true})
		require.NoError(t, err)
		box := openBox(t, s, imap.Inbox)
		defer box.Close()
		if _, err := box.State(context.Background()); err != nil {
			return
		}
		first := contents(t, box)
		require.NoError(t, os.Remove(sidecar(path, indexSuffix)))
		other, err := Open(root, &Options{apart: true})
		require.NoError(t, err)
		again := openBox(t, other, imap.Inbox)
		defer again.Close()
		require.Equal(t, first, contents(t, again))
	})
}
