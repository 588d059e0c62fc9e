package dsn_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/mail"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"
)

const original = "From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nMessage-ID: <1@example.org>\r\nSubject: hello\r\n\r\nHello, Bob!\r\n"

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// report is one that a Runner could ask for.
func report(kind queue.ReportKind, message string, change func(*queue.Report)) *queue.Report {
	r := &queue.Report{
		Kind: kind, ID: "Q1", Now: now, Size: int64(len(message)),
		Envelope: &queue.Envelope{ReversePath: "ann@example.org", Arrived: now.Add(-time.Hour)},
		Recipients: []queue.Recipient{{
			Address: "bob@example.net", Attempts: 1,
			Last: queue.Outcome{Result: queue.Permanent, Code: 550, Enhanced: "5.1.1", Text: "no such user\nreally (not)", RemoteMTA: "mx.example.net"},
		}},
		Open: func() (io.ReadSeekCloser, error) { return nopCloser{strings.NewReader(message)}, nil },
	}
	if change != nil {
		change(r)
	}
	return r
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

var writer = dsn.Writer{Hostname: "mx.example.org"}

// write gives the report's envelope and text.
func write(t *testing.T, r *queue.Report) (*queue.Message, string) {
	t.Helper()
	m, err := writer.Report(t.Context(), r)
	require.NoError(t, err)
	text, err := io.ReadAll(m.Body)
	require.NoError(t, err)
	if c, ok := m.Body.(io.Closer); ok {
		require.NoError(t, c.Close())
	}
	for i, line := range strings.SplitAfter(string(text), "\r\n") {
		require.LessOrEqual(t, len(line), 1000, "line %d", i)
		require.NotContains(t, strings.TrimSuffix(line, "\r\n"), "\n", "line %d has a bare LF", i)
		require.NotContains(t, strings.TrimSuffix(line, "\r\n"), "\r", "line %d has a bare CR", i)
	}
	return m, string(text)
}

func TestFailure(t *testing.T) {
	m, text := write(t, report(queue.ReportFailure, original, func(r *queue.Report) {
		r.Envelope.EnvID = "QQ 314+159"
		r.Recipients[0].ORcpt = "rfc822;Bob@Example.NET"
	}))
	assert.Empty(t, m.ReversePath, "a report has the null sender")
	require.Len(t, m.Recipients, 1)
	assert.Equal(t, "ann@example.org", m.Recipients[0].Address)
	assert.Equal(t, queue.NotifyNever, m.Recipients[0].Notify)
	assert.Equal(t, queue.Body7Bit, m.Envelope.Body)
	assert.False(t, m.UTF8)

	msg, err := mail.ReadMessage(strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, "<ann@example.org>", msg.Header.Get("To"))
	assert.Equal(t, "<1@example.org>", msg.Header.Get("In-Reply-To"))
	assert.Equal(t, "auto-replied", msg.Header.Get("Auto-Submitted"))
	assert.Contains(t, msg.Header.Get("Content-Type"), "report-type=delivery-status")
	for _, want := range []string{
		"Original-Envelope-Id: QQ 314+159\r\n", "Reporting-MTA: dns; mx.example.org\r\n",
		"Arrival-Date: Sun, 01 Mar 2026 11:00:00 +0000\r\n",
		"Original-Recipient: rfc822; Bob@Example.NET\r\n", "Final-Recipient: rfc822; bob@example.net\r\n",
		"Action: failed\r\n", "Status: 5.1.1\r\n", "Remote-MTA: dns; mx.example.net\r\n",
		"Diagnostic-Code: smtp; 550 5.1.1 no such user really (not)\r\n",
		"Last-Attempt-Date: Sun, 01 Mar 2026 12:00:00 +0000\r\n",
		"Content-Type: message/rfc822\r\n", original,
	} {
		assert.Contains(t, text, want)
	}

	got, err := dsn.Parse(strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, "QQ 314+159", got.EnvelopeID)
	assert.Equal(t, "mx.example.org", got.ReportingMTA)
	assert.Equal(t, "<1@example.org>", got.MessageID)
	assert.True(t, got.ArrivalDate.Equal(now.Add(-time.Hour)))
	assert.Contains(t, got.Text, "<bob@example.net>")
	require.Len(t, got.Recipients, 1)
	s := got.Recipients[0]
	assert.True(t, s.LastAttempt.Equal(now))
	s.LastAttempt = time.Time{}
	assert.Equal(t, dsn.RecipientStatus{
		OriginalType: "rfc822", Original: "Bob@Example.NET", FinalType: "rfc822", Final: "bob@example.net",
		Action: "failed", Status: "5.1.1", RemoteMTA: "mx.example.net", DiagType: "smtp", Diagnostic: "550 5.1.1 no such user really (not)",
	}, s)
}

func TestActionAndStatus(t *testing.T) {
	for _, c := range []struct {
		name           string
		kind           queue.ReportKind
		outcome        queue.Outcome
		action, status string
		contains       string
	}{
		{"refused, no enhanced code", queue.ReportFailure, queue.Outcome{Result: queue.Permanent, Code: 550}, "failed", "5.0.0", ""},
		{"refused, odd enhanced code", queue.ReportFailure, queue.Outcome{Result: queue.Permanent, Code: 550, Enhanced: "5.01.1"}, "failed", "5.0.0", ""},
		{"given up after 4xx", queue.ReportFailure, queue.Outcome{Code: 451, Enhanced: "4.7.1", Text: "greylisted"}, "failed", "4.7.1", "ran out"},
		{"given up, nobody answered", queue.ReportFailure, queue.Outcome{Result: queue.RouteDown, Text: "connection refused"}, "failed", "4.0.0", "Diagnostic-Code: x-mailblocks; connection refused\r\n"},
		{"delayed", queue.ReportDelay, queue.Outcome{Code: 451}, "delayed", "4.0.0", "Will-Retry-Until: Wed, 04 Mar 2026 12:00:00 +0000\r\n"},
		{"delivered", queue.ReportSuccess, queue.Outcome{Result: queue.Delivered}, "delivered", "2.0.0", "was delivered"},
		{"relayed", queue.ReportSuccess, queue.Outcome{Result: queue.Delivered, Code: 250, Enhanced: "2.1.5", Handover: queue.HandoverRelayed}, "relayed", "2.1.5", "does not confirm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, text := write(t, report(c.kind, original, func(r *queue.Report) {
				r.Recipients[0].Last = c.outcome
				r.RetryUntil = now.Add(72 * time.Hour)
			}))
			got, err := dsn.Parse(strings.NewReader(text))
			require.NoError(t, err)
			assert.Equal(t, c.action, got.Recipients[0].Action)
			assert.Equal(t, c.status, got.Recipients[0].Status)
			assert.Contains(t, text, c.contains)
			if c.kind != queue.ReportFailure {
				assert.NotContains(t, text, "Hello, Bob!", "only failures return the body")
				assert.Contains(t, text, "Content-Type: text/rfc822-headers\r\n")
				assert.Contains(t, text, "Subject: hello\r\n")
			}
		})
	}
}

func TestReturn(t *testing.T) {
	large := original + strings.Repeat("and so on\r\n", 20_000)
	for _, c := range []struct {
		name    string
		ret     queue.ReturnKind
		body    queue.BodyKind
		message string
		whole   bool
	}{
		{"not said", queue.ReturnDefault, 0, original, true},
		{"not said, large", queue.ReturnDefault, 0, large, false},
		{"full, large", queue.ReturnFull, 0, large, true},
		{"headers", queue.ReturnHeaders, 0, original, false},
		{"full, binary", queue.ReturnFull, queue.BodyBinaryMIME, original, false},
		{"no header at all", queue.ReturnHeaders, 0, "\r\nbody\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, text := write(t, report(queue.ReportFailure, c.message, func(r *queue.Report) {
				r.Envelope.Return, r.Envelope.Body = c.ret, c.body
			}))
			assert.Equal(t, c.whole, strings.Contains(text, c.message))
			_, err := dsn.Parse(strings.NewReader(text))
			assert.NoError(t, err)
		})
	}
}

func TestEightBit(t *testing.T) {
	m, text := write(t, report(queue.ReportFailure, original+"Grüße\r\n", nil))
	assert.Equal(t, queue.Body8BitMIME, m.Envelope.Body)
	assert.Contains(t, text, "Grüße")
	assert.Equal(t, 2, strings.Count(text, "Content-Transfer-Encoding: 8bit\r\n"), "the part says so, and what is around it")

	m, text = write(t, report(queue.ReportDelay, "Subject: Grüße\r\n\r\n", nil))
	assert.Equal(t, queue.Body7Bit, m.Envelope.Body)
	assert.Contains(t, text, "Subject: Gr????e\r\n")
}

func TestUTF8(t *testing.T) {
	message := "Subject: Grüße\r\nMessage-ID: <2@example.org>\r\n\r\nHällo\r\n"
	recipient := func(r *queue.Report) {
		r.Envelope.UTF8 = true
		r.Recipients[0].Address = "jörg@example.net"
		r.Recipients[0].ORcpt = `utf-8;j\x{F6}rg@example.net`
		r.Recipients[0].Last.Text = "kein Empfänger"
	}
	t.Run("sender is ASCII", func(t *testing.T) {
		m, text := write(t, report(queue.ReportFailure, message, recipient))
		assert.False(t, m.UTF8, "any host can take this report")
		for _, c := range []byte(text) {
			require.Less(t, c, byte(0x80))
		}
		got, err := dsn.Parse(strings.NewReader(text))
		require.NoError(t, err)
		assert.Equal(t, "utf-8", got.Recipients[0].FinalType)
		assert.Equal(t, "jörg@example.net", got.Recipients[0].Final)
		assert.Equal(t, "jörg@example.net", got.Recipients[0].Original)
		assert.Equal(t, "550 5.1.1 kein Empf?nger", got.Recipients[0].Diagnostic)
		assert.Equal(t, "<2@example.org>", got.MessageID)
		assert.Contains(t, got.Text, "jörg@example.net")
		assert.Contains(t, text, "message/global-delivery-status")
		assert.Contains(t, text, "Content-Type: message/global\r\n")
	})
	t.Run("sender is not", func(t *testing.T) {
		m, text := write(t, report(queue.ReportFailure, message, func(r *queue.Report) {
			recipient(r)
			r.Envelope.ReversePath = "änn@example.org"
		}))
		assert.True(t, m.UTF8)
		assert.Equal(t, queue.Body8BitMIME, m.Envelope.Body)
		assert.Contains(t, text, "To: <änn@example.org>\r\n")
		assert.Contains(t, text, "Final-Recipient: utf-8; jörg@example.net\r\n")
		assert.Contains(t, text, message)
		_, err := dsn.Parse(strings.NewReader(text))
		require.NoError(t, err)
	})
}

// TestInjection: nothing that a peer says makes a field or a line of its own.
func TestInjection(t *testing.T) {
	evil := "x\r\nBcc: victim@example.org\r\n\r\n--"
	_, text := write(t, report(queue.ReportFailure, "Message-ID: <a@b>\rBcc: v@example.org\r\n\r\n", func(r *queue.Report) {
		r.Envelope.ReversePath = "ann@example.org\r\nBcc: victim@example.org"
		r.Envelope.EnvID = evil
		r.Envelope.Return = queue.ReturnFull
		r.Size = 1 << 40
		r.Recipients[0].ORcpt = "rfc822;" + evil
		r.Recipients[0].Address = evil
		r.Recipients[0].Last.Text = evil + strings.Repeat("\x00y", 1000)
		r.Recipients[0].Last.RemoteMTA = evil
	}))
	assert.NotContains(t, strings.ToLower(text), "\nbcc:")
}

// TestReadFails: a message that can not be read any more is reported on without it.
func TestReadFails(t *testing.T) {
	for _, opens := range []int{0, 1} { // how many times it can be opened
		_, text := write(t, report(queue.ReportFailure, original, func(r *queue.Report) {
			open, left := r.Open, opens
			r.Open = func() (io.ReadSeekCloser, error) {
				if left--; left < 0 {
					return nil, errors.New("disk")
				}
				return open()
			}
		}))
		assert.NotContains(t, text, "Hello, Bob!")
		got, err := dsn.Parse(strings.NewReader(text))
		require.NoError(t, err)
		assert.Equal(t, "bob@example.net", got.Recipients[0].Final)
		assert.Contains(t, got.Text, "mx.example.net said")
	}
}

func TestParseForeign(t *testing.T) {
	text := strings.ReplaceAll(`From: MAILER-DAEMON@mail.test
Content-Type: multipart/report; report-type="delivery-status"; boundary=b
MIME-Version: 1.0

--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Leider=20nicht.

--b
Content-Type: message/delivery-status

Reporting-MTA:dns;mail.test

Original-Recipient: rfc822;<a@b.test>
Final-Recipient: RFC822 ; a@b.test
Action: FAILED
Status: 5.2.2 (mailbox full)
Diagnostic-Code: smtp; 552
 5.2.2 over
 quota

Final-Recipient: rfc822;c@b.test
Action: relayed
Status: 2.0.0

--b
Content-Type: text/rfc822-headers

Message-Id: <x@y>
--b--
`, "\n", "\r\n")
	got, err := dsn.Parse(strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, "Leider nicht.\r\n", got.Text)
	assert.Equal(t, "<x@y>", got.MessageID)
	assert.Equal(t, []dsn.RecipientStatus{
		{
			OriginalType: "rfc822", Original: "a@b.test", FinalType: "rfc822", Final: "a@b.test", Action: "failed", Status: "5.2.2",
			DiagType: "smtp", Diagnostic: "552 5.2.2 over quota",
		},
		{FinalType: "rfc822", Final: "c@b.test", Action: "relayed", Status: "2.0.0"},
	}, got.Recipients)

	for _, no := range []string{"", "Subject: x\r\n\r\nhello\r\n", "Content-Type: multipart/report; boundary=b\r\n\r\n--b--\r\n"} {
		_, err := dsn.Parse(strings.NewReader(no))
		assert.ErrorIs(t, err, dsn.ErrNotReport)
	}
}

// TestPython has the reports read by Python's email package.
func TestPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	const script = `
import sys, json, email, email.policy
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
parts = list(m.iter_parts())
status = parts[1].get_payload()
print(json.dumps({
  "type": m.get_content_type(), "defects": [str(d) for p in m.walk() for d in p.defects],
  "types": [p.get_content_type() for p in parts],
  "action": status[1]["Action"], "status": status[1]["Status"], "final": status[1]["Final-Recipient"],
  "mta": status[0]["Reporting-MTA"], "subject": parts[2].get_payload()[0]["Subject"],
  "text": parts[0].get_content(),
}))`
	_, text := write(t, report(queue.ReportFailure, original, nil))
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	cmd.Stdin = strings.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var got struct {
		Type, Action, Status, Final, MTA, Subject, Text string
		Defects, Types                                  []string
	}
	require.NoError(t, json.Unmarshal(out, &got))
	assert.Equal(t, "multipart/report", got.Type)
	assert.Empty(t, got.Defects)
	assert.Equal(t, []string{"text/plain", "message/delivery-status", "message/rfc822"}, got.Types)
	assert.Equal(t, "failed", got.Action)
	assert.Equal(t, "5.1.1", got.Status)
	assert.Equal(t, "rfc822; bob@example.net", got.Final)
	assert.Equal(t, "dns; mx.example.org", got.MTA)
	assert.Equal(t, "hello", got.Subject)
	assert.Contains(t, got.Text, "mx.example.net said")
}

// FuzzParse: no panic, whatever comes; and what is parsed from a report that we write from it says the same.
func FuzzParse(f *testing.F) {
	m, err := writer.Report(f.Context(), report(queue.ReportFailure, original, nil))
	require.NoError(f, err)
	seed, err := io.ReadAll(m.Body)
	require.NoError(f, err)
	f.Add(string(seed))
	f.Add("Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\r\nFinal-Recipient: utf-8;\\x{F6}\r\n\r\n--b--\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := dsn.Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range got.Recipients {
			if s.Final == "" {
				continue
			}
			_, again := write(t, report(queue.ReportFailure, original, func(r *queue.Report) {
				r.Recipients[0].Address = s.Final
				r.Recipients[0].Last.Text = s.Diagnostic
			}))
			if _, err := dsn.Parse(strings.NewReader(again)); err != nil {
				t.Fatalf("%v in\n%s", err, again)
			}
		}
	})
}
