package maildir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// What a file of names says is taken back only where it is of our making, and where no UID
// shows that all have come.
func TestTakeBack(t *testing.T) {
	tr := newTree(t)
	tr.write("new/1700000000.M1P1.h", "Subject: a\n\n")
	require.Equal(t, []string{"1 ()"}, tr.list(tr.open(imap.Inbox)))
	tr.write("victim", "x")
	for name, tc := range map[string]struct {
		intent string
		gone   bool
	}{
		"two that came without UIDs":       {"new/1700000001.b\ncur/1700000002.c:2,S\n\n", true},
		"of a second group":                {"new/1700000000.M1P1.h\nnew/9.x\n\nnew/1700000001.b\ncur/1700000002.c:2,S\n\n", true},
		"torn":                             {"new/1700000001.b\ncur/1700000002.c:2", false},
		"one has its UID":                  {"new/1700000001.b\ncur/1700000002.c:2,S\nnew/1700000000.M1P1.h\n\n", false},
		"out of the folder":                {"new/../victim\nnew/1700000001.b\n\n", false},
		"out of the folder, another way":   {"../victim\n\n/victim\n\ncur/../../victim\n\n", false},
		"nothing":                          {"", false},
		"rubbish":                          {"\x00\xff\n\n\n\n", false},
		"names without a part of a folder": {"1700000001.b\n1700000002.c:2,S\n\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			tr := tree{t, tr.root, t.Context()}
			tr.write("new/1700000001.b", "Subject: b\n\n")
			tr.write("cur/1700000002.c:2,S", "Subject: c\n\n")
			tr.write(intentFile, tc.intent)
			box := tr.open(imap.Inbox)
			want := 3
			if tc.gone {
				want = 1
			}
			assert.Len(t, tr.list(box), want)
			assert.NoFileExists(t, filepath.Join(tr.root, intentFile))
			assert.FileExists(t, filepath.Join(tr.root, "victim"))
			require.NoError(t, box.Expunge(t.Context(), imap.UIDSet{{First: 2, Last: 1000}}, false))
			_ = os.Remove(filepath.Join(tr.root, "new/1700000001.b"))
		})
	}
}
