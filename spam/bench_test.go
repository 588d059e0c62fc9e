package spam_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
)

// mails returns messages like those of a mailing list and of a shop, some with attachments.
func mails() [][]byte {
	var out [][]byte
	for n := range 20 {
		var b strings.Builder
		fmt.Fprintf(&b, "Received: from mx%d.example.org (mx%d.example.org [192.0.2.%d])\r\n\tby mail.example.net with ESMTPS id abc%d; Mon, 2 Jan 2006 15:04:05 +0000\r\n", n, n, n, n)
		fmt.Fprintf(&b, "From: \"Person %d\" <p%d@example.org>\r\nTo: list@example.net\r\nSubject: [list] question %d about the thing\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\nMessage-ID: <%d@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"b%d\"\r\n\r\n", n, n, n, n, n)
		fmt.Fprintf(&b, "--b%d\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", n)
		for i := range 30 {
			fmt.Fprintf(&b, "Line %d of the text says something about topic%d and people%d.\r\n", i, i*n, i+n)
		}
		fmt.Fprintf(&b, "--b%d\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body>", n)
		for i := range 30 {
			fmt.Fprintf(&b, "<p style=3D\"color:red\">Line %d of the <b>text</b> says <a href=3D\"http://example.org/%d\">something</a>=\r\n.</p>\r\n", i, i)
		}
		fmt.Fprintf(&b, "</body></html>\r\n--b%d--\r\n", n)
		out = append(out, []byte(b.String()))
	}
	return out
}

func BenchmarkScore(b *testing.B) {
	all := mails()
	c := newClassifier(b, spam.NewMemory())
	for i := range 200 {
		require.NoError(b, c.Learn(b.Context(), "", fmt.Sprint(i), hamOf(b, i), spam.Ham))
		require.NoError(b, c.Learn(b.Context(), "", fmt.Sprint("s", i), spamOf(b, i), spam.Spam))
	}
	b.SetBytes(int64(len(all[0])))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m, err := spam.Parse(bytes.NewReader(all[i%len(all)]), spam.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Score(b.Context(), "", m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLearn(b *testing.B) {
	s, err := spam.OpenFile(filepath.Join(b.TempDir(), "db"))
	require.NoError(b, err)
	defer s.Close()
	all := mails()
	c := newClassifier(b, s)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m, err := spam.Parse(bytes.NewReader(all[i%len(all)]), spam.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Learn(b.Context(), "", fmt.Sprint(i), m, spam.Ham+spam.Label(i%2)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLargest(b *testing.B) {
	for name, text := range map[string]string{
		"words": strings.Repeat("some words here ", 1<<16),
		"tags":  "Content-Type: text/html\r\n\r\n" + strings.Repeat("<a href=x><b>", 1<<20/13),
		"parts": "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 1<<20/10),
	} {
		b.Run(name, func(b *testing.B) {
			c := newClassifier(b, spam.NewMemory())
			require.NoError(b, c.Learn(b.Context(), "", "1", hamOf(b, 1), spam.Ham))
			require.NoError(b, c.Learn(b.Context(), "", "2", spamOf(b, 1), spam.Spam))
			b.ReportAllocs()
			for b.Loop() {
				m, err := spam.Parse(strings.NewReader(text), spam.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.Score(b.Context(), "", m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
