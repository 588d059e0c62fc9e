package dsn_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue/dsn"
)

const feedback = `From: <abusedesk@example.com>
Subject: FW: Earn money
To: <abuse@example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="part1"

--part1
Content-Type: text/plain; charset="US-ASCII"

This is an email abuse report.
--part1
Content-Type: message/feedback-report

Feedback-Type: Abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <somespammer@example.net>
Original-Rcpt-To: <user@example.com>
Original-Rcpt-To: <other@example.com>
Arrival-Date: Thu, 8 Mar 2005 14:00:00 -0500
Reporting-MTA: dns; mail.example.com
Source-IP: 192.0.2.1
Incidents: 3
Authentication-Results: mail.example.com;
  spf=fail smtp.mail=somespammer@example.com
Reported-Domain: example.net
Reported-Uri: http://example.net/earn_money
Reported-Uri: mailto:user@example.com
Removal-Recipient: user@example.com

--part1
Content-Type: message/rfc822

Message-ID: <8787KJKJ3K4J3K4J3K4J3.mail@example.net>
From: <somespammer@example.net>

Spam Spam Spam
--part1--
`

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestParseFeedback(t *testing.T) {
	f, err := dsn.ParseFeedback(strings.NewReader(crlf(feedback)))
	require.NoError(t, err)
	assert.Equal(t, "abuse", f.Type)
	assert.Equal(t, "SomeGenerator/1.0", f.UserAgent)
	assert.Equal(t, "1", f.Version)
	assert.Equal(t, "somespammer@example.net", f.MailFrom)
	assert.Equal(t, []string{"user@example.com", "other@example.com"}, f.RcptTo)
	assert.Equal(t, "mail.example.com", f.ReportingMTA)
	assert.Equal(t, "192.0.2.1", f.SourceIP.String())
	assert.Equal(t, 3, f.Incidents)
	assert.Equal(t, 2005, f.Arrived.Year())
	assert.Equal(t, []string{"mail.example.com; spf=fail smtp.mail=somespammer@example.com"}, f.AuthResults)
	assert.Equal(t, []string{"example.net"}, f.ReportedDomains)
	assert.Equal(t, []string{"http://example.net/earn_money", "mailto:user@example.com"}, f.ReportedURIs)
	assert.Equal(t, "This is an email abuse report.", f.Text)
	assert.Equal(t, "<8787KJKJ3K4J3K4J3K4J3.mail@example.net>", f.MessageID)
	assert.Equal(t, "<somespammer@example.net>", f.Header.Get("From"))

	for name, text := range map[string]string{
		"no type":         strings.Replace(feedback, "Feedback-Type: Abuse\n", "", 1),
		"delivery report": strings.Replace(feedback, "feedback-report;", "delivery-status;", 1),
		"plain":           "Subject: x\n\nhello\n",
		"empty":           "",
	} {
		_, err := dsn.ParseFeedback(strings.NewReader(crlf(text)))
		assert.ErrorIs(t, err, dsn.ErrNotReport, name)
	}
}

const failure = `From: MAILER-DAEMON@example.com
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

Sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Original-Recipient: rfc822; ann@example.org
Final-Recipient: rfc822; a.n@internal.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 unknown

Final-Recipient: rfc822; bob@example.org
Action: delayed
Status: 4.2.2

--b
Content-Type: text/rfc822-headers

Message-ID: <m@us.test>

--b--
`

func TestReadBounce(t *testing.T) {
	verp := func(address string) (string, bool) {
		local, _, _ := strings.Cut(address, "@")
		_, to, ok := strings.Cut(local, "+")
		return strings.ReplaceAll(to, "=", "@"), ok
	}
	for _, c := range []struct {
		name, text, to string
		want           []dsn.Bounce
	}{
		{"report", failure, "news@us.test", []dsn.Bounce{
			{Kind: dsn.BounceFailed, Recipient: "ann@example.org", Status: "5.1.1", Reason: dsn.ReasonAddress, Diagnostic: "550 5.1.1 unknown", MessageID: "<m@us.test>"},
			{Kind: dsn.BounceDelayed, Recipient: "bob@example.org", Status: "4.2.2", Reason: dsn.ReasonFull, MessageID: "<m@us.test>"},
		}},
		{"report, VERP", strings.Replace(failure, "Original-Recipient: rfc822; ann@example.org\n", "", 1), "news+cid=forward.test@us.test", []dsn.Bounce{
			{Kind: dsn.BounceFailed, Recipient: "cid@forward.test", Proven: true, Status: "5.1.1", Reason: dsn.ReasonAddress, Diagnostic: "550 5.1.1 unknown", MessageID: "<m@us.test>"},
			{Kind: dsn.BounceDelayed, Recipient: "cid@forward.test", Proven: true, Status: "4.2.2", Reason: dsn.ReasonFull, MessageID: "<m@us.test>"},
		}},
		{"complaint", feedback, "news@us.test", []dsn.Bounce{
			{Kind: dsn.BounceComplaint, Recipient: "user@example.com", Diagnostic: "abuse", MessageID: "<8787KJKJ3K4J3K4J3K4J3.mail@example.net>"},
			{Kind: dsn.BounceComplaint, Recipient: "other@example.com", Diagnostic: "abuse", MessageID: "<8787KJKJ3K4J3K4J3K4J3.mail@example.net>"},
		}},
		{"complaint taken back, VERP", strings.Replace(feedback, "Abuse", "not-spam", 1), "news+ann=example.org@us.test", []dsn.Bounce{
			{Kind: dsn.BounceNotSpam, Recipient: "ann@example.org", Proven: true, Diagnostic: "not-spam", MessageID: "<8787KJKJ3K4J3K4J3K4J3.mail@example.net>"},
		}},
		{"own words, VERP", "Subject: failure\n\nI could not do it.\n", "news+ann=example.org@us.test", []dsn.Bounce{{Recipient: "ann@example.org", Proven: true}}},
		{"own words", "Subject: failure\n\nI could not do it.\n", "news@us.test", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := dsn.ReadBounce(strings.NewReader(crlf(c.text)), c.to, verp)
			if c.want == nil {
				require.ErrorIs(t, err, dsn.ErrNotReport)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestReasonOf(t *testing.T) {
	for status, want := range map[string]dsn.BounceReason{
		"5.1.1": dsn.ReasonAddress, "5.1.10": dsn.ReasonAddress, "5.2.1": dsn.ReasonAddress, "5.1.8": dsn.ReasonOther, "4.2.2": dsn.ReasonFull,
		"5.3.4": dsn.ReasonTooLarge, "4.4.7": dsn.ReasonNetwork, "5.6.7": dsn.ReasonContent, "5.7.26": dsn.ReasonPolicy, "5.0.0": dsn.ReasonOther,
		"": dsn.ReasonOther, "5": dsn.ReasonOther, "5.7": dsn.ReasonPolicy,
	} {
		assert.Equal(t, want, dsn.ReasonOf(status), status)
	}
}

// TestCorpus reads reports that other mail servers have written (testdata/reports, named after them): each tells of one failure.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/reports/*.eml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got, err := dsn.ReadBounce(strings.NewReader(crlf(strings.ReplaceAll(string(text), "\r\n", "\n"))), "sender@example.org", nil)
			require.NoError(t, err)
			require.Len(t, got, 1)
			want := dsn.BounceFailed
			if strings.Contains(file, "delay") {
				want = dsn.BounceDelayed
			}
			assert.Equal(t, want, got[0].Kind)
			assert.Equal(t, "nobody@dest.test", got[0].Recipient)
			assert.Equal(t, "<original@example.org>", got[0].MessageID)
			if want == dsn.BounceFailed {
				assert.Equal(t, "5", got[0].Status[:1])
				assert.Contains(t, got[0].Diagnostic, "no such user")
			}
		})
	}
}

func FuzzReadBounce(f *testing.F) {
	f.Add(crlf(feedback), "a+b=c@d.test")
	f.Add(crlf(failure), "x@d.test")
	f.Fuzz(func(t *testing.T, text, to string) {
		all, err := dsn.ReadBounce(strings.NewReader(text), to, func(a string) (string, bool) { return a, strings.Contains(a, "+") })
		if err == nil && len(all) == 0 {
			t.Error("no error and nothing read")
		}
		if err != nil && strings.Contains(to, "+") {
			t.Errorf("a proven recipient, and yet: %v", err)
		}
	})
}
