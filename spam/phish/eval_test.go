package phish_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/phish"
)

// corpus yields each message of a track and whether it is spam.
func corpus(t *testing.T, track string, yield func(name string, m *spam.Message, junk bool)) {
	f, err := os.Open(shared.Path(t, "corpora", "spam", track+"-dev.tar.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	labels := map[string]bool{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		name := path.Base(h.Name)
		if name == "labels.tsv" {
			for line := range strings.Lines(string(text)) {
				col := strings.Split(line, "\t")
				labels[col[0]] = col[1] == "spam"
			}
			continue
		}
		m, err := spam.Parse(bytes.NewReader(text), spam.Limits{})
		require.NoError(t, err)
		junk, ok := labels[name]
		require.True(t, ok, name)
		yield(name, m, junk)
	}
}

// TestCorpora has the check alone judge mail: it finds a share of the phishing, and next to no
// wanted mail.
func TestCorpora(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads 17,000 messages")
	}
	c := phish.New(phish.Options{})
	for _, track := range []string{"modern", "classic", "enron"} {
		var n, called [2]int
		kinds := map[string]*[2]int{}
		corpus(t, track, func(name string, m *spam.Message, junk bool) {
			v, err := c.Check(t.Context(), nil, m)
			require.NoError(t, err)
			class := 0
			if junk {
				class = 1
			}
			n[class]++
			for _, r := range v.Reasons {
				if kinds[r.Name] == nil {
					kinds[r.Name] = new([2]int)
				}
				kinds[r.Name][class]++
			}
			if v.Action == spam.Junk {
				if called[class]++; !junk {
					t.Logf("%s: wanted, called phishing for %v", name, v.Reasons)
				}
			}
		})
		t.Logf("%s: found %d of %d (%.1f %%), called wrongly %d of %d (%.3f %%)", track, called[1], n[1], 100*float64(called[1])/float64(n[1]), called[0], n[0], 100*float64(called[0])/float64(n[0]))
		var names []string
		for name := range kinds {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			t.Logf("  %-22s ham %4d spam %4d", name, kinds[name][0], kinds[name][1])
		}
		assert.LessOrEqual(t, float64(called[0]), 0.0005*float64(n[0])+1, track)
		if track == "modern" {
			assert.GreaterOrEqual(t, float64(called[1]), 0.15*float64(n[1]))
		}
	}
}
