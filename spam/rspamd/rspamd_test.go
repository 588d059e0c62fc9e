package rspamd_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/internal/daemontest"
	"github.com/mailblocks/mailblocks/spam/rspamd"
)

func message(text string) *spam.Message {
	return &spam.Message{Source: strings.NewReader(text), Size: int64(len(text))}
}

func fake(t *testing.T, do http.HandlerFunc) *rspamd.Client {
	s := httptest.NewServer(do)
	t.Cleanup(s.Close)
	return &rspamd.Client{URL: s.URL, Controller: s.URL, HTTP: s.Client()}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, text)
	}
}

func TestCheck(t *testing.T) {
	var asked string
	c := fake(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = fmt.Sprint(r.Method, r.URL, string(body), r.Header["Ip"], r.Header["Helo"], r.Header["Hostname"], r.Header["From"], r.Header["Rcpt"], r.Header["User"], r.Header["Password"])
		says(`{"action":"add header","score":8.5,"required_score":15,"symbols":{"BAYES_SPAM":{"score":5.1,"options":["99%"]},"DATE":{"score":0},"R_SPF_ALLOW":{"score":-0.2},"OTHER":{"score":3.5}}}`)(w, r)
	})
	c.Password = "secret"
	assert.Equal(t, "rspamd", c.Name())
	assert.Equal(t, spam.Data, c.Stage())
	e := &spam.Envelope{Remote: netip.MustParseAddr("::ffff:192.0.2.1"), Hello: "h.test", RemoteName: "n.test", Sender: "a@example.org", Recipients: []string{"b@x.test", "c@x.test"}, Identity: "al\nice"}
	v, err := c.Check(t.Context(), e, message("Subject: x\r\n\r\nx"))
	require.NoError(t, err)
	assert.Equal(t, "POST/checkv2Subject: x\r\n\r\nx[192.0.2.1][h.test][n.test][a@example.org][b@x.test c@x.test][al ice][secret]", strings.ReplaceAll(asked, "] [", "]["))
	assert.Equal(t, spam.Junk, v.Action)
	assert.InDelta(t, 1.25, v.Score, 1e-9)
	sum := 0.0
	for _, r := range v.Reasons {
		sum += r.Score
	}
	assert.InDelta(t, v.Score, sum, 1e-9, "reasons sum to the score")
	assert.Equal(t, "rspamd-BAYES_SPAM(99%)=+2.55", v.Reasons[1].String())

	for action, want := range map[string]spam.Action{"no action": spam.Accept, "greylist": spam.Defer, "soft reject": spam.Defer, "rewrite subject": spam.Junk, "reject": spam.Reject} {
		v, err := fake(t, says(`{"action":"`+action+`","score":0}`)).Check(t.Context(), nil, message(""))
		require.NoError(t, err)
		assert.Equal(t, want, v.Action, action)
	}
	v, err = fake(t, says(`{"is_skipped":true,"action":"reject"}`)).Check(t.Context(), nil, message("x"))
	require.NoError(t, err)
	assert.Equal(t, spam.Reject, v.Action, "it did not look, and knows nevertheless")
	v, err = fake(t, says(`{"is_skipped":true}`)).Check(t.Context(), nil, message("x"))
	require.NoError(t, err)
	assert.True(t, v.Unsure)
}

func TestTrouble(t *testing.T) {
	for name, do := range map[string]http.HandlerFunc{
		"error":       func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) },
		"nonsense":    says("<html>"),
		"nothing":     says(""),
		"no score":    says(`{"action":"reject"}`),
		"a flood":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, daemontest.Endless) },
		"hangs up":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"wrong types": says(`{"score":"much","symbols":[]}`),
	} {
		_, err := fake(t, do).Check(t.Context(), nil, message("text"))
		assert.Error(t, err, name)
	}
	_, err := (&rspamd.Client{URL: "http://127.0.0.1:1"}).Check(t.Context(), nil, message("x"))
	assert.Error(t, err)
	_, err = new(rspamd.Client).Check(t.Context(), nil, new(spam.Message))
	assert.ErrorIs(t, err, spam.ErrNoSource)

	met, end := make(chan struct{}), make(chan struct{})
	stalls := fake(t, func(http.ResponseWriter, *http.Request) { met <- struct{}{}; <-end })
	t.Cleanup(func() { close(end) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-met; cancel() }()
	_, err = stalls.Check(ctx, nil, message("x"))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestLearn(t *testing.T) {
	var asked string
	status := http.StatusOK
	c := fake(t, func(w http.ResponseWriter, r *http.Request) { asked = r.URL.Path; w.WriteHeader(status) })
	require.NoError(t, c.Learn(t.Context(), nil, message("x"), spam.Spam))
	assert.Equal(t, "/learnspam", asked)
	status = http.StatusAlreadyReported
	require.NoError(t, c.Learn(t.Context(), nil, message("x"), spam.Ham), "it was learned before")
	assert.Equal(t, "/learnham", asked)
	status = http.StatusForbidden
	assert.ErrorIs(t, c.Learn(t.Context(), nil, message("x"), spam.Ham), rspamd.ErrRefused)
	asked = ""
	require.NoError(t, c.Learn(t.Context(), nil, message("x"), spam.Neutral))
	assert.Empty(t, asked)
}

func TestInterop(t *testing.T) {
	path, err := exec.LookPath("rspamd")
	if err != nil {
		shared.Missing(t, "rspamd")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	addr := daemontest.FreeAddr(t)
	conf := filepath.Join(dir, "rspamd.conf")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tld"), []byte("com\norg\n"), 0o644)) // the real one takes long to compile
	require.NoError(t, os.WriteFile(conf, []byte(fmt.Sprintf(`
options { pidfile = "%[1]s/pid"; filters = ""; url_tld = "%[1]s/tld"; gtube_patterns = "all"; control_socket = "%[1]s/control mode=0600"; hs_cache_dir = "%[1]s"; }
logging { type = "console"; level = "warning"; }
worker "normal" { bind_socket = "%[2]s"; count = 1; }
actions { reject = 15; add_header = 6; }
`, dir, addr)), 0o644))
	args := []string{"-f", "-c", conf}
	if os.Getuid() == 0 {
		args = append(args, "-i", "-u", "root", "-g", "root")
	}
	c := &rspamd.Client{URL: "http://" + addr}
	head := "From: a@example.org\r\nTo: b@example.org\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nSubject: test\r\n\r\n"
	var v spam.Verdict
	daemontest.Run(t, exec.Command(path, args...), func() (err error) {
		v, err = c.Check(t.Context(), &spam.Envelope{Sender: "a@example.org"}, message(head+"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"))
		return err
	})
	assert.Equal(t, spam.Reject, v.Action)
	v, err = c.Check(t.Context(), nil, message(head+"Shall we have lunch on Friday?\r\n"))
	require.NoError(t, err)
	assert.Equal(t, spam.Accept, v.Action)
}
