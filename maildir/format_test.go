package maildir

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

func TestNames(t *testing.T) {
	for file, want := range map[string]string{
		"1.h:2,S":        "1.h FS ",
		"1.h":            "1.h FS ",
		"1.h:2,":         "1.h FS ",
		"1.h:2,Zab,X=1":  "1.h FS ,X=1",
		"1.h,S=9:1,old":  "1.h,S=9 FS ",
		"1:2,S:2,T":      "1 FS ,T",
		"1.h,W=12,S=9:2": "1.h,W=12,S=9 FS ",
	} {
		n := ParseName(file)
		assert.Equal(t, file, n.String())
		set := n.WithFlags("SFS")
		_, more, _ := strings.Cut(set.Info, "FS")
		assert.Equal(t, want, n.Base+" "+set.Flags()+" "+more, file)
	}
	for base, want := range map[string][2]int64{
		"1.h,S=12,W=13": {12, 13}, "1.h": {-1, -1}, "1.h,S=": {-1, -1}, "1.h,S=-4,W=9x": {-1, -1}, "1.h,W=5": {-1, 5},
	} {
		size, ok := Name{Base: base}.Size()
		crlf, cok := Name{Base: base}.CRLFSize()
		assert.Equal(t, []bool{want[0] >= 0, want[1] >= 0}, []bool{ok, cok}, base)
		if ok {
			assert.Equal(t, want[0], size)
		}
		if cok {
			assert.Equal(t, want[1], crlf)
		}
	}
}

// Reading a file with bare LFs anywhere gives what reading its conversion gives.
func TestLFBody(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		text := make([]byte, rng.IntN(300_000))
		for i := range text {
			text[i] = "ab\n\r"[rng.IntN(4)]
		}
		want := []byte{}
		for i, c := range text {
			if c == '\n' && (i == 0 || text[i-1] != '\r') {
				want = append(want, '\r')
			}
			want = append(want, c)
		}
		path := filepath.Join(t.TempDir(), "m")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		f, err := os.Open(path)
		require.NoError(t, err)
		size, err := crlfSize(f)
		require.NoError(t, err)
		require.EqualValues(t, len(want), size)
		body, err := openBody(f, size)
		require.NoError(t, err)
		for i, off := 0, 0; i < 20; i++ {
			if i%3 > 0 { // else goes on where it was
				off = rng.IntN(len(want) + 1)
			}
			p := make([]byte, rng.IntN([]int{100, 1000, 100_000}[i%3])+1)
			n, err := body.ReadAt(p, int64(off))
			require.Equal(t, want[off:min(off+len(p), len(want))], p[:n])
			if off+len(p) > len(want) || off == len(want) {
				require.ErrorIs(t, err, io.EOF)
			} else {
				require.NoError(t, err)
			}
			off += n
		}
		require.NoError(t, body.Close())
	}
}

func TestCRLFCounterDoesNotMindChunks(t *testing.T) {
	text := "a\r\nb\n\r\n\n\r\r\n\n"
	for chunk := 1; chunk <= len(text); chunk++ {
		var c crlfCounter
		for part := range slices.Chunk([]byte(text), chunk) {
			_, _ = c.Write(part)
		}
		assert.EqualValues(t, 3, c.bare, "chunks of %d", chunk)
	}
}

func FuzzUIDList(f *testing.F) {
	f.Add([]byte("3 V1 N4 Gabc\n1 W44 :a\n2 :b,S=1\n"))
	f.Add([]byte("1 5 9\n1 a\n2 b:2,S\n"))
	f.Add([]byte("3 V0 N1\n1 :a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), uidListFile)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		read := func() (l uidList, recs []uidRecord) {
			l.path = path
			defer func() { l.file.release() }()
			require.NoError(t, l.refresh(func() { recs = nil }, func(r uidRecord) { recs = append(recs, r) }))
			return l, recs
		}
		l, recs := read()
		for i, r := range recs {
			require.True(t, r.uid > 0 && (i == 0 || r.uid > recs[i-1].uid), "UIDs ascend")
			require.Less(t, r.uid, l.next)
		}
		if l.validity == 0 {
			l.validity = 1
		}
		require.NoError(t, l.write(slices.Values(recs)))
		l.file.release()
		l2, again := read()
		require.Zero(t, l2.damaged)
		require.Equal(t, recs, again, "what was read is written so that it is read again")
		require.Equal(t, l.next, l2.next)
		require.Equal(t, l.extra, l2.extra)
	})
}

func FuzzIndex(f *testing.F) {
	x := index{path: filepath.Join(f.TempDir(), indexFile)}
	err := x.write(7, 8, slices.Values([]entry{{uid: 1, modSeq: 9, flags: imap.NewFlags(`\Seen`, "k"), size: 3}}), []goneEntry{{2, 10}})
	require.NoError(f, err)
	x.file.release()
	seed, err := os.ReadFile(x.path)
	require.NoError(f, err)
	f.Add(seed)
	f.Add(seed[:30])
	f.Fuzz(func(t *testing.T, text []byte) {
		x := index{path: filepath.Join(t.TempDir(), indexFile)}
		defer func() { x.file.release() }()
		require.NoError(t, os.WriteFile(x.path, text, 0o600))
		var first, second []string
		read := func(to *[]string) {
			err := x.refresh(func() {}, func(e entry) { *to = append(*to, fmt.Sprint(e)) }, func(g goneEntry) { *to = append(*to, fmt.Sprint(g)) })
			require.NoError(t, err)
		}
		read(&first)
		if x.read == 0 {
			return
		}
		x.putMessage(entry{uid: 77, flags: imap.NewFlags("new")})
		require.NoError(t, x.flush())
		x.file.release()
		x = index{path: x.path}
		read(&second)
		require.Len(t, second, len(first)+1, "what was there stays, what was appended is read")
	})
}

func FuzzKeywords(f *testing.F) {
	f.Add("0 a\n25 z\n26 no\nx y\n", "abzFS")
	f.Fuzz(func(t *testing.T, file, letters string) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, keywordsFile), []byte(file), 0o600))
		k := newKeywords(dir)
		_, err := k.refresh()
		require.NoError(t, err)
		flags := k.flags(letters)
		again, rest, _ := k.letters(flags, letters)
		require.Empty(t, rest)
		require.True(t, flags.Equal(k.flags(again)), "%s %s", flags, k.flags(again))
		n := ParseName("1.h").WithFlags(again)
		require.Equal(t, n, ParseName(n.String()))
	})
}

func BenchmarkDeliver(b *testing.B) {
	d := Dir(b.TempDir())
	require.NoError(b, d.Init())
	text := bytes.Repeat([]byte("A line of mail as it often is.\r\n"), 128)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Deliver(b.Context(), bytes.NewReader(text), ""); err != nil {
			b.Fatal(err)
		}
	}
}
