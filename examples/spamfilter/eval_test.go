package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/spam"
)

// A judged message of a corpus. Those whose names begin with 0 to 3 are the test.
type example struct {
	name string
	raw  []byte
	spam bool
	test bool
}

// corpus reads a track: messages and labels in one archive.
func corpus(t *testing.T, file string) []example {
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	messages := map[string][]byte{}
	var labels []byte
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		if base := path.Base(h.Name); base == "labels.tsv" {
			labels = data
		} else {
			messages[base] = data
		}
	}
	var out []example
	for line := range strings.Lines(string(labels)) {
		col := strings.Split(line, "\t")
		if raw, ok := messages[col[0]]; ok {
			out = append(out, example{col[0], raw, col[1] == "spam", col[0][0] <= '3'})
		}
	}
	require.NotEmpty(t, out)
	return out
}

// A result has a score and a decision for each message of the test.
type result struct {
	score        float64
	spam, called bool
}

// measures are those of the TREC spam track.
type measures struct {
	ham, spam, fp, fn  int
	lam, auc, low, top float64 // percent; (1-AUC) with its 95 % interval
}

func measure(rs []result) (m measures) {
	for _, r := range rs {
		switch {
		case r.spam:
			m.spam++
			if !r.called {
				m.fn++
			}
		default:
			m.ham++
			if r.called {
				m.fp++
			}
		}
	}
	logit := func(n, of int) float64 {
		p := (float64(n) + 0.5) / (float64(of) + 1)
		return math.Log(p / (1 - p))
	}
	m.lam = 100 / (1 + math.Exp(-(logit(m.fp, m.ham)+logit(m.fn, m.spam))/2))
	m.auc = lostArea(rs)
	rnd := rand.New(rand.NewSource(1))
	boot := make([]float64, 200)
	sample := make([]result, len(rs))
	for i := range boot {
		for j := range sample {
			sample[j] = rs[rnd.Intn(len(rs))]
		}
		boot[i] = lostArea(sample)
	}
	slices.Sort(boot)
	m.low, m.top = boot[len(boot)/40], boot[len(boot)-1-len(boot)/40]
	return m
}

// lostArea is the share of pairs of ham and spam that stand in the wrong order, in percent.
func lostArea(rs []result) float64 {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b result) int { return cmp.Compare(a.score, b.score) })
	var lost, spams, hams float64
	for i := 0; i < len(rs); {
		s, h := 0.0, 0.0
		for j := i; i < len(rs) && rs[i].score == rs[j].score; i++ {
			if rs[i].spam {
				s++
			} else {
				h++
			}
		}
		lost += h*spams + h*s/2
		spams += s
		hams += h
	}
	return 100 * lost / math.Max(spams*hams, 1)
}

// TestEvaluate prints how the classifier does on the hold-out of each track, beside bogofilter
// where that is installed. It fails when far from what it should be.
func TestEvaluate(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for track, most := range map[string]float64{"classic": 1.5, "modern": 0.6, "enron": 2.3} {
		t.Run(track, func(t *testing.T) {
			all := corpus(t, shared.Path(t, "corpora", "spam", track+"-dev.tar.gz"))
			rand.New(rand.NewSource(1)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			m := measure(ours(t, all))
			show(t, track, "mailblocks, mixed order", m)
			assert.Less(t, m.lam, most)
			slices.SortStableFunc(all, func(a, b example) int {
				if a.spam == b.spam {
					return 0
				} else if b.spam {
					return -1
				}
				return 1
			})
			m = measure(ours(t, all))
			show(t, track, "mailblocks, ham then spam", m)
			assert.Less(t, m.lam, most)
			if _, err := exec.LookPath("bogofilter"); err != nil {
				return
			}
			show(t, track, "bogofilter", measure(bogofilter(t, all)))
		})
	}
}

func show(t *testing.T, track, who string, m measures) {
	t.Logf("| %s | %s | %d / %d | %d / %d | %.2f | %.4f (%.4f-%.4f) |", track, who, m.fp, m.ham, m.fn, m.spam, m.lam, m.auc, m.low, m.top)
}

func ours(t *testing.T, all []example) (rs []result) {
	c, err := spam.NewClassifier(t.Context(), spam.NewMemory(), nil)
	require.NoError(t, err)
	for _, e := range all {
		if e.test {
			continue
		}
		m, err := spam.Parse(bytes.NewReader(e.raw), spam.Limits{})
		require.NoError(t, err)
		l := spam.Ham
		if e.spam {
			l = spam.Spam
		}
		require.NoError(t, c.Learn(t.Context(), "", e.name, m, l))
	}
	for _, e := range all {
		if !e.test {
			continue
		}
		m, err := spam.Parse(bytes.NewReader(e.raw), spam.Limits{})
		require.NoError(t, err)
		v, err := c.Score(t.Context(), "", m)
		require.NoError(t, err)
		rs = append(rs, result{v.Score, e.spam, v.String() == "spam"})
	}
	return rs
}

// bogofilter trains and asks the peer with its default settings.
func bogofilter(t *testing.T, all []example) (rs []result) {
	dir := t.TempDir()
	lists := map[string]*bytes.Buffer{"-n": {}, "-s": {}, "": {}}
	var truth []bool
	for _, e := range all {
		file := filepath.Join(dir, e.name)
		require.NoError(t, os.WriteFile(file, e.raw, 0o600))
		which := "-n"
		switch {
		case e.test:
			which = ""
			truth = append(truth, e.spam)
		case e.spam:
			which = "-s"
		}
		lists[which].WriteString(file + "\n")
	}
	for _, which := range []string{"-n", "-s"} {
		cmd := exec.Command("bogofilter", "-d", dir, "-C", which, "-b")
		cmd.Stdin = lists[which]
		require.NoError(t, cmd.Run())
	}
	cmd := exec.Command("bogofilter", "-d", dir, "-C", "-T", "-b")
	cmd.Stdin = lists[""]
	out, _ := cmd.Output() // its exit code is a verdict
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // path, S H or U, score
		require.GreaterOrEqual(t, len(f), 3, line)
		r := result{spam: truth[len(rs)], called: f[1] == "S"}
		_, err := fmt.Sscan(f[2], &r.score)
		require.NoError(t, err)
		rs = append(rs, r)
	}
	require.Len(t, rs, len(truth))
	return rs
}
