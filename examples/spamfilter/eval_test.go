package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/spam"
)

// Names of the corpora are hashes: what they begin with splits them at random. Constants are
// chosen with -names=456 -leave=0123, which looks at the training part alone.
var (
	testNames  = flag.String("names", "0123", "first letters of the names of messages that are the test")
	leaveNames = flag.String("leave", "", "first letters of the names of messages that are left out")
	withPeers  = flag.Bool("peers", false, "have bogofilter and SpamAssassin judge, too, which takes minutes")
)

// A judged message of a corpus.
type example struct {
	name string
	raw  []byte
	spam bool
	test bool
	m    *spam.Message
}

// corpus reads a track: messages and labels in one archive, in an order of chance.
func corpus(t *testing.T, track string) []example {
	file := shared.Path(t, "corpora", "spam", track+"-dev.tar.gz")
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
			if first := col[0][:1]; !strings.Contains(*leaveNames, first) {
				m, err := spam.Parse(bytes.NewReader(raw), spam.Limits{})
				require.NoError(t, err)
				out = append(out, example{col[0], raw, col[1] == "spam", strings.Contains(*testNames, first), m})
			}
		}
	}
	require.NotEmpty(t, out)
	rand.New(rand.NewSource(1)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// A result has a score and a decision for each message of the test.
type result struct {
	score                float64
	spam, called, unsure bool
}

// measures are those of the TREC spam track.
type measures struct {
	ham, spam, fp, fn  int
	unsure             int
	strict             int     // false negatives where at most 0.1 % of ham is above
	lam, auc, low, top float64 // percent; (1-AUC) with its 95 % interval
}

func measure(rs []result) (m measures) {
	var hams []float64
	for _, r := range rs {
		if r.unsure {
			m.unsure++
		}
		switch {
		case r.spam:
			m.spam++
			if !r.called {
				m.fn++
			}
		default:
			m.ham++
			hams = append(hams, r.score)
			if r.called {
				m.fp++
			}
		}
	}
	slices.Sort(hams)
	for _, r := range rs {
		if r.spam && r.score <= hams[len(hams)-1-len(hams)/1000] {
			m.strict++
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
// and the Bayes classifier of SpamAssassin where they are installed. It fails when far from what
// it should be.
func TestEvaluate(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for track, most := range map[string]float64{"classic": 1.5, "modern": 0.6, "enron": 2.3} {
		t.Run(track, func(t *testing.T) {
			all := corpus(t, track)
			m := measure(judge(t, learn(t, all), all))
			show(t, track, "mailblocks, mixed order", m)
			assert.Less(t, m.lam, most)
			m = measure(judge(t, learn(t, hamFirst(all)), all))
			show(t, track, "mailblocks, ham then spam", m)
			assert.Less(t, m.lam, most)
			if !*withPeers {
				return
			}
			for name, peer := range map[string]func(*testing.T, []example) []result{"bogofilter": bogofilter, "spamassassin": spamAssassin} {
				t.Run(name, func(t *testing.T) { show(t, track, name, measure(peer(t, all))) })
			}
		})
	}
}

// TestEvaluateHard prints how the classifier does where filters usually fail.
func TestEvaluateHard(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	all := map[string][]example{}
	trained := map[string]*spam.Classifier{}
	for _, track := range []string{"classic", "modern", "enron"} {
		all[track] = corpus(t, track)
		trained[track] = learn(t, all[track])
		m := measure(judge(t, trained[track], goodWords(t, all[track])))
		show(t, track, "good words appended to spam", m)
		t.Logf("%.2f %% false negatives where at most 0.1 %% of ham is above", 100*float64(m.strict)/float64(m.spam))
		m = measure(judge(t, learn(t, wrongLabels(all[track])), all[track]))
		show(t, track, "10 % wrong labels", m)
		assert.Less(t, m.lam, 3.5)
		m = measure(judge(t, learn(t, few(all[track], 25)), all[track]))
		show(t, track, "25 ham and 25 spam", m)
		t.Logf("unsure of %d of %d", m.unsure, m.ham+m.spam)
		assert.Less(t, float64(m.fp)/float64(m.ham), 0.01)
	}
	m := measure(judge(t, trained["classic"], all["modern"]))
	show(t, "modern", "learned from classic", m)
	t.Logf("unsure of %d of %d", m.unsure, m.ham+m.spam)
	assert.Less(t, float64(m.fp)/float64(m.ham), 0.02)
}

func hamFirst(all []example) []example {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b example) int {
		if a.spam == b.spam {
			return 0
		} else if b.spam {
			return -1
		}
		return 1
	})
	return all
}

func wrongLabels(all []example) []example {
	all = slices.Clone(all)
	rnd := rand.New(rand.NewSource(2))
	for i := range all {
		if rnd.Intn(10) == 0 && !all[i].test {
			all[i].spam = !all[i].spam
		}
	}
	return all
}

// few leaves n messages of each class to learn.
func few(all []example, n int) (out []example) {
	left := map[bool]int{true: n, false: n}
	for _, e := range all {
		if !e.test && left[e.spam] > 0 {
			left[e.spam]--
			out = append(out, e)
		}
	}
	return out
}

// goodWords returns all with the 200 words that most speak for ham in what is learned appended
// to each spam of the test, where a reader's program shows them.
func goodWords(t *testing.T, all []example) []example {
	type count struct{ ham, spam float64 }
	counts := map[string]*count{}
	for _, e := range all {
		if e.test {
			continue
		}
		seen := map[string]bool{}
		for _, w := range strings.FieldsFunc(strings.ToLower(e.m.Text), func(r rune) bool { return !unicode.IsLetter(r) }) {
			if len(w) < 3 || len(w) > 20 || seen[w] {
				continue
			}
			seen[w] = true
			c := counts[w]
			if c == nil {
				c = &count{}
				counts[w] = c
			}
			if e.spam {
				c.spam++
			} else {
				c.ham++
			}
		}
	}
	words := slices.Collect(maps.Keys(counts))
	odds := func(w string) float64 { return (counts[w].ham + 0.5) / (counts[w].spam + 0.5) }
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(odds(b), odds(a)), cmp.Compare(a, b)) })
	text := strings.Join(words[:200], " ")

	all = slices.Clone(all)
	for i := range all {
		if e := &all[i]; e.test && e.spam {
			m, err := spam.Parse(bytes.NewReader(withText(e.raw, text)), spam.Limits{})
			require.NoError(t, err)
			e.m = m
		}
	}
	return all
}

// withText returns a message with a text at the end: after the body, or in a part of its own
// after all others when the body is encoded or has parts.
func withText(raw []byte, text string) []byte {
	head, body, ok := bytes.Cut(raw, []byte("\n\n"))
	low := bytes.ToLower(head)
	if !ok || !bytes.Contains(low, []byte("multipart/")) && !bytes.Contains(low, []byte("\ncontent-transfer-encoding: base64")) {
		return slices.Concat(raw, []byte("\n"), []byte(text), []byte("\n"))
	}
	var outer, inner []byte
	mime := false
	for line := range bytes.Lines(append(head, '\n')) {
		if line[0] != ' ' && line[0] != '\t' {
			mime = bytes.HasPrefix(bytes.ToLower(line), []byte("content-"))
		}
		if mime {
			inner = append(inner, line...)
		} else {
			outer = append(outer, line...)
		}
	}
	return slices.Concat(outer, []byte("Content-Type: multipart/mixed; boundary=\"=-outer\"\n\n--=-outer\n"), inner, []byte("\n"), body,
		[]byte("\n--=-outer\n\n"+text+"\n--=-outer--\n"))
}

func show(t *testing.T, track, who string, m measures) {
	t.Logf("| %s | %s | %d / %d | %d / %d | %.2f | %.4f (%.4f-%.4f) |", track, who, m.fp, m.ham, m.fn, m.spam, m.lam, m.auc, m.low, m.top)
}

// learn returns a classifier that learned what is not test.
func learn(t *testing.T, all []example) *spam.Classifier {
	c, err := spam.NewClassifier(t.Context(), spam.NewMemory(), nil)
	require.NoError(t, err)
	for _, e := range all {
		if e.test {
			continue
		}
		l := spam.Ham
		if e.spam {
			l = spam.Spam
		}
		require.NoError(t, c.Learn(t.Context(), "", e.name, e.m, l))
	}
	return c
}

func judge(t *testing.T, c *spam.Classifier, all []example) (rs []result) {
	for _, e := range all {
		if !e.test {
			continue
		}
		v, err := c.Score(t.Context(), "", e.m)
		require.NoError(t, err)
		rs = append(rs, result{v.Score, e.spam, v.String() == "spam", v.Unsure})
	}
	return rs
}

// bogofilter trains and asks the peer with its default settings.
func bogofilter(t *testing.T, all []example) (rs []result) {
	if _, err := exec.LookPath("bogofilter"); err != nil {
		t.Skip("bogofilter is not installed")
	}
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
		r := result{spam: truth[len(rs)], called: f[1] == "S", unsure: f[1] == "U"}
		_, err := fmt.Sscan(f[2], &r.score)
		require.NoError(t, err)
		rs = append(rs, r)
	}
	require.Len(t, rs, len(truth))
	return rs
}

// spamAssassin trains the Bayes classifier of SpamAssassin with its defaults and asks it alone:
// all other rules are off, and spam is what its highest rules (from 0.5 on) would call so.
func spamAssassin(t *testing.T, all []example) (rs []result) {
	for _, program := range []string{"sa-learn", "perl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	dir := t.TempDir()
	lists := map[string]*bytes.Buffer{"--ham": {}, "--spam": {}, "": {}}
	var truth []bool
	for _, e := range all {
		file := filepath.Join(dir, e.name)
		require.NoError(t, os.WriteFile(file, e.raw, 0o600))
		which := "--ham"
		switch {
		case e.test:
			which = ""
			truth = append(truth, e.spam)
		case e.spam:
			which = "--spam"
		}
		lists[which].WriteString(file + "\n")
	}
	tlds, err := os.ReadFile("/usr/share/spamassassin/20_aux_tlds.cf") // it does nothing without
	if err != nil {
		t.Skip("the rules of spamassassin are not installed")
	}
	write(t, filepath.Join(dir, "etc", "tlds.cf"), string(tlds))
	write(t, filepath.Join(dir, "etc", "init.pre"), "loadplugin Mail::SpamAssassin::Plugin::Bayes\n")
	write(t, filepath.Join(dir, "etc", "user_prefs"), "")
	write(t, filepath.Join(dir, "etc", "local.cf"), "use_bayes 1\nuse_auto_whitelist 0\nbayes_auto_learn 0\nbayes_path "+filepath.Join(dir, "bayes")+"\n")
	options := []string{"--siteconfigpath=" + filepath.Join(dir, "etc"), "--configpath=" + filepath.Join(dir, "etc"), "--prefspath=" + filepath.Join(dir, "etc", "user_prefs")}
	for which, list := range lists {
		if which == "" {
			continue
		}
		cmd := exec.Command("sa-learn", append(options, "--no-sync", which, "-f", write(t, filepath.Join(dir, "list"+which), list.String()))...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	out, err := exec.Command("sa-learn", append(options, "--sync")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command("perl", "-e", askBayes, dir)
	cmd.Stdin = lists[""]
	cmd.Stderr = os.Stderr
	out, err = cmd.Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		r := result{spam: truth[len(rs)]}
		_, err := fmt.Sscan(line, &r.score)
		require.NoError(t, err, line)
		r.called = r.score >= 0.5
		rs = append(rs, r)
	}
	require.Len(t, rs, len(truth))
	return rs
}

// askBayes prints the probability for each message of a list.
const askBayes = `
use Mail::SpamAssassin;
my $dir = shift;
my $sa = Mail::SpamAssassin->new({rules_filename => "$dir/etc", site_rules_filename => "$dir/etc", userprefs_filename => "$dir/etc/user_prefs", dont_copy_prefs => 1, local_tests_only => 1});
$sa->init(1);
my $bayes = $sa->call_plugins("learner_get_implementation");
while (my $f = <STDIN>) {
	chomp $f;
	open(my $h, "<", $f) or die $f;
	my $mail = $sa->parse([<$h>]);
	my $status = Mail::SpamAssassin::PerMsgStatus->new($sa, $mail);
	my $p = $bayes->scan($status, $mail);
	printf("%.12g\n", defined $p ? $p : 0.5);
	$status->finish;
	$mail->finish;
}
`
