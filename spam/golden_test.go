package spam_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
)

// goldenMails are written in all the ways the reader knows.
var goldenMails = map[string]string{
	"plain":   "Received: from a.example.org (a.example.org [192.0.2.7])\r\n\tby mx.example.net with ESMTP;\r\n\tMon, 2 Jan 2006 15:04:05 +0000\r\nFrom: Ann <ann@example.org>\r\nSubject: minutes of meeting 8\r\n\r\nThe board met on day 8, and agreed on the budget: http://example.org/minutes?id=8.\r\n",
	"html":    "From: WIN <win@example.net>\nReply-To: other@example.com\nSubject: You WON!!!\nContent-Type: text/html\n\n<html><style>p{}</style><body bgcolor=#FFFFFF><p style='display:none'>board budget</p><P>Cheap <b>pi</b>lls,&nbsp;buy <a HREF=\"http://203.0.113.9:8080/now\">here</a><img src=x.gif width=1><!-- x --></body>",
	"coded":   "From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nSubject: =?iso-8859-1?B?R3L832U=?=\r\n =?iso-8859-1?Q?_und_mehr?=\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nVGhlIGJvYXJkIG1ldCBhbmQgYWdyZWVkLg==\r\n--b\r\nContent-Type: application/pdf; name=\"Budget.PDF\"\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n",
	"wide":    "From: a@example.org\r\nSubject: \xe4\xbc\x9a\xe8\xad\xb0\xe3\x81\xae\xe4\xbb\xb6\r\n\r\n\xe8\xad\xb0\xe4\xba\x8b\xe9\x8c\xb2\xe3\x82\x92\xe9\x80\x81\xe3\x82\x8a\xe3\x81\xbe\xe3\x81\x99 \xc3\x84pfel\r\n",
	"broken":  "no header here\r\nSubject : odd\r\nContent-Type: multipart/mixed\r\n\r\nbody =?x?y?z \xff\xfe ftp://example.test/~a <b>\r\n",
	"message": "From: a@example.org\r\nContent-Type: message/rfc822\r\n\r\nFrom: win@example.net\r\nSubject: You WON 5!!!\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nCheap=20pills, buy=\r\n now number 5 http://203.0.113.5/\r\n",
	"empty":   "",
}

// The same mail has the same score, however the code that reads it is written. Whoever changes
// what the features are, and TokenizerVersion with it, changes the values.
func TestGolden(t *testing.T) {
	c := newClassifier(t, spam.NewMemory())
	list := mails()
	for i := range 60 {
		ham := hamOf(t, i)
		if i%3 == 0 {
			ham = message(t, string(list[i%len(list)]))
		}
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("h", i), ham, spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	for name, want := range map[string]float64{
		"plain": -8.0417, "html": 3.0728, "coded": -5.2673, "wide": -0.8310, "broken": 0.6815, "message": 3.2076, "empty": 0.0100,
	} {
		v, err := c.Score(t.Context(), "", message(t, goldenMails[name]))
		require.NoError(t, err)
		assert.InDelta(t, want, v.Score, 0.001, name)
	}
}
