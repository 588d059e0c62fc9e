package mimetree

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func parse(t testing.TB, msg string) *Part {
	t.Helper()
	p, err := Parse(strings.NewReader(msg), int64(len(msg)))
	require.NoError(t, err)
	return p
}

func TestStructure(t *testing.T) {
	for _, tc := range []struct{ name, msg, want string }{
		{"empty", "", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)`},
		{"plain", "Subject: x\n\nline\nline\n", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 12 2 NIL NIL NIL NIL)`},
		{"no blank line", "Subject: x\n", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)`},
		{"all fields", `Content-Type: TEXT/Html; Charset="utf\-8" (comment) ; format=flowed;
	x = "a;b"
Content-Transfer-Encoding: Quoted-Printable (why not)
Content-ID: <1@x>
Content-Description: a "thing"
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Disposition: attachment; filename=a b.txt; size=7
Content-Language: en, de
Content-Location: http://x.test/a

x`, `("TEXT" "Html" ("Charset" "utf-8" "format" "flowed" "x" "a;b") "<1@x>" "a \"thing\"" "Quoted-Printable" 1 0 "Q2hlY2sgSW50ZWdyaXR5IQ==" ("attachment" ("filename" "a" "size" "7")) ("en" "de") "http://x.test/a")`},
		{"bad type", "Content-Type: text\n\nx\n", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)`},
		{"two types", "Content-Type: image/gif\nContent-Type: text/html\n\nx\n", `("image" "gif" NIL NIL NIL "7bit" 3 NIL NIL NIL NIL)`},
		{"split parameter", "Content-Type: application/x; name*0=long; name*1=\" name\"; t*0*=utf-8''%e2; t*1=x\n\n", `("application" "x" ("name" "long name" "t*" "utf-8''%e2x") NIL NIL "7bit" 0 NIL NIL NIL NIL)`},
		{"multipart", `Content-Type: multipart/mixed; boundary="b"

preamble
--b

one
--b
Content-Type: text/html

two

--b--
epilogue
`, `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL)("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 5 1 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
		{"no delimiter", "Content-Type: multipart/mixed; boundary=b\n\nx\n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
		{"no boundary", "Content-Type: multipart/mixed\n\nx\n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" NIL NIL NIL NIL)`},
		{"never closed", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 1 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
		{"cut off", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
		{"empty parts", "Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b--", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
		{"one boundary begins another", `Content-Type: multipart/mixed; boundary=ab

--ab
Content-Type: multipart/alternative; boundary=abc

--abc

one
--abcd
--abc--
--ab

two
--ab--`, `((("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 11 1 NIL NIL NIL NIL) "alternative" ("boundary" "abc") NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "ab") NIL NIL NIL)`},
		{"the outer ends the inner", `Content-Type: multipart/mixed; boundary=out

--out
Content-Type: multipart/mixed; boundary=in

--in

one
--out

two
--out--`, `((("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "in") NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "out") NIL NIL NIL)`},
		{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nx\n--b--", `(("message" "rfc822" NIL NIL NIL "7bit" 16 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) "digest" ("boundary" "b") NIL NIL NIL)`},
		{"blank after the boundary", "Content-Type: multipart/mixed; boundary=b\n\n--b \t\n\none\n--b--  \n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
	} {
		got := string(parse(t, crlf(tc.msg)).AppendStructure(nil, true, false))
		assert.Equal(t, tc.want, got, tc.name)
	}
}

// The example of RFC 3501, 7.4.2.
func TestRFCExample(t *testing.T) {
	p := parse(t, crlf("Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\n\n")+strings.Repeat("x", 2279-48*2)+strings.Repeat("\r\n", 48))
	assert.Equal(t, `("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7bit" 2279 48)`, string(p.AppendStructure(nil, false, false)))
}

const nested = `From: out@example.org
Subject: outer
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain
X-One: 1

one
--b
Content-Type: message/rfc822

From: in@example.org
Subject: inner
Content-Type: multipart/alternative; boundary=c

--c

2.1
--c
Content-Type: text/html

2.2
--c--
--b
Content-Type: message/rfc822

Subject: plain

3.1
--b--
`

func TestSections(t *testing.T) {
	msg := crlf(nested)
	p := parse(t, msg)
	for _, tc := range []struct {
		number []uint32
		text   Text
		want   string
		none   bool
	}{
		{nil, Whole, nested, false},
		{nil, Header, "From: out@example.org\nSubject: outer\nContent-Type: multipart/mixed; boundary=b\n\n", false},
		{[]uint32{1}, Whole, "one", false},
		{[]uint32{1}, MIME, "Content-Type: text/plain\nX-One: 1\n\n", false},
		{[]uint32{1}, Header, "", true},
		{[]uint32{1}, Body, "", true},
		{[]uint32{1, 1}, Whole, "", true},
		{[]uint32{2}, Header, "From: in@example.org\nSubject: inner\nContent-Type: multipart/alternative; boundary=c\n\n", false},
		{[]uint32{2}, Body, "--c\n\n2.1\n--c\nContent-Type: text/html\n\n2.2\n--c--", false},
		{[]uint32{2}, MIME, "Content-Type: message/rfc822\n\n", false},
		{[]uint32{2, 1}, Whole, "2.1", false},
		{[]uint32{2, 2}, Whole, "2.2", false},
		{[]uint32{2, 2}, MIME, "Content-Type: text/html\n\n", false},
		{[]uint32{2, 3}, Whole, "", true},
		{[]uint32{3}, Whole, "Subject: plain\n\n3.1", false},
		{[]uint32{3, 1}, Whole, "3.1", false},
		{[]uint32{3, 1}, MIME, "Subject: plain\n\n", false},
		{[]uint32{3, 1, 1}, Whole, "", true},
		{[]uint32{4}, Whole, "", true},
		{[]uint32{0}, Whole, "", true},
		{[]uint32{4294967295}, Whole, "", true},
	} {
		start, end, ok := p.Section(tc.number, tc.text)
		assert.Equal(t, !tc.none, ok, "%v %d", tc.number, tc.text)
		if ok {
			assert.Equal(t, crlf(tc.want), msg[start:end], "%v %d", tc.number, tc.text)
		}
	}
	plain := parse(t, crlf("Subject: x\n\nbody\n"))
	start, end, ok := plain.Section([]uint32{1}, Whole)
	assert.True(t, ok && start == 14 && end == 20, "part 1 of a message without parts is its body: %d %d", start, end)
}

// Delimiters must be found wherever they lie in the window, and no part may be torn.
func TestWindow(t *testing.T) {
	for pad := window - 80; pad < window+40; pad++ {
		msg := crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n") + strings.Repeat("y", pad) + crlf("\n--b\n\ntwo\n--b--\n")
		p := parse(t, msg)
		require.Len(t, p.Parts, 2, "pad %d", pad)
		require.EqualValues(t, pad, p.Parts[0].Size(), "pad %d", pad)
		require.EqualValues(t, 3, p.Parts[1].Size())
	}
	long := "Subject: " + strings.Repeat("x", 3*window) + "\r\nTo: a@example.org\r\n\r\nbody"
	p := parse(t, long)
	assert.Len(t, p.Envelope.Subject, 3*window)
	assert.Equal(t, "a", p.Envelope.To[0].Mailbox)
	assert.EqualValues(t, 4, p.Size())
}

func TestLinesOfNestedMessage(t *testing.T) {
	p := parse(t, crlf(nested))
	assert.EqualValues(t, strings.Count(crlf(nested)[p.Body:p.End], "\n"), p.Lines)
	for _, part := range p.Parts {
		assert.EqualValues(t, strings.Count(crlf(nested)[part.Body:part.End], "\n"), part.Lines)
	}
}

func TestHostileDepth(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	p := parse(t, crlf(b.String()))
	depth := 0
	for ; p.IsMultipart(); p = p.Parts[0] {
		depth++
	}
	assert.Equal(t, maxDepth, depth)

	p = parse(t, crlf("Content-Type: multipart/mixed; boundary=b\n\n"+strings.Repeat("--b\n\nx\n", 20000)))
	assert.LessOrEqual(t, len(p.Parts), maxParts)
	p = parse(t, crlf(strings.Repeat("Content-Type: message/rfc822\n\n", 1000)))
	depth = 0
	for ; p.Message != nil; p = p.Message {
		depth++
	}
	assert.Equal(t, maxDepth, depth)
}

func TestEnvelope(t *testing.T) {
	p := parse(t, crlf(`Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev1 WG mtg summary
 and minutes
To: imap@cac.washington.edu
Cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>

`))
	assert.Equal(t, `("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" `+
		`(("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) `+
		`((NIL NIL "imap" "cac.washington.edu")) ((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL "<B27397-0100000@cac.washington.edu>")`,
		string(p.Envelope.AppendEnvelope(nil, false)))
}

func TestEnvelopeOfOddHeaders(t *testing.T) {
	p := parse(t, crlf("Date:\nSubject: a\n\t b \t c\nSubject:\nTo: a@x\nMessage-ID: \nTo: b@x\n\n"))
	assert.Equal(t, `("" "" NIL NIL NIL ((NIL NIL "a" "x")(NIL NIL "b" "x")) NIL NIL NIL "")`, string(p.Envelope.AppendEnvelope(nil, false)),
		"an empty field is not an absent one (RFC 9051, 7.5.2)")
	p = parse(t, crlf("Subject: a\n\t b \t c\n\n"))
	assert.Equal(t, "a b c", p.Envelope.Subject)
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"":                            `NIL`,
		" , ,":                        `NIL`,
		"a@x.test":                    `((NIL NIL "a" "x.test"))`,
		"a@x.test (Al Bo)":            `(("Al Bo" NIL "a" "x.test"))`,
		"Al Bo <a@x.test>":            `(("Al Bo" NIL "a" "x.test"))`,
		`"Al \"B\" Bo" <a@x.test>`:    `(("Al \"B\" Bo" NIL "a" "x.test"))`,
		"A. B. Cee <a.b@x.test>, d@e": `(("A. B. Cee" NIL "a.b" "x.test")(NIL NIL "d" "e"))`,
		"<@r1,@r2:a@x.test>":          `((NIL "@r1,@r2" "a" "x.test"))`,
		`"a b"@x.test`:                `((NIL NIL "a b" "x.test"))`,
		"a@[192.0.2.1]":               `((NIL NIL "a" "[192.0.2.1]"))`,
		"a . b @ x . test":            `((NIL NIL "a.b" "x.test"))`,
		"G: a@x, B <b@x>;, c@x":       `((NIL NIL "G" NIL)(NIL NIL "a" "x")("B" NIL "b" "x")(NIL NIL NIL NIL)(NIL NIL "c" "x"))`,
		"undisclosed-recipients:;":    `((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL))`,
		"G: a@x":                      `((NIL NIL "G" NIL)(NIL NIL "a" "x")(NIL NIL NIL NIL))`,
		"justaname":                   `((NIL NIL "justaname" "MISSING_DOMAIN"))`,
		"Name <>":                     `(("Name" NIL "MISSING_MAILBOX" "MISSING_DOMAIN"))`,
		"@x.test":                     `((NIL NIL "MISSING_MAILBOX" "x.test"))`,
		"=?utf-8?q?J=C3=B6rg?= <j@x>": `(("=?utf-8?q?J=C3=B6rg?=" NIL "j" "x"))`,
		"a@x <b@y>":                   `((NIL NIL "a" "x"))`,
		"Broken <a@x, b@y":            `(("Broken" NIL "a" "x")(NIL NIL "b" "y"))`,
	} {
		assert.Equal(t, want, string(appendAddresses(nil, ParseAddresses(in), false)), "%q", in)
	}
}

func TestFilterHeader(t *testing.T) {
	msg := crlf("Subject: a\n b\nTo : x\nX-Y: z\nsubject: again\nno field\n\nSubject: body\n")
	end := int64(strings.Index(msg, "\r\n\r\n") + 4)
	get := func(not bool, names ...string) string {
		b, err := FilterHeader(strings.NewReader(msg), 0, end, names, not)
		require.NoError(t, err)
		return strings.ReplaceAll(string(b), "\r\n", "\n")
	}
	assert.Equal(t, "Subject: a\n b\nsubject: again\n\n", get(false, "SUBJECT"))
	assert.Equal(t, "To : x\n\n", get(false, "to", "nothing"))
	assert.Equal(t, "\n", get(false, "nothing"))
	assert.Equal(t, "To : x\nX-Y: z\n\n", get(true, "subject"))
}

// Whatever a message holds, its parts lie within it and within each other, and what is
// rendered is valid syntax.
func FuzzParse(f *testing.F) {
	f.Add([]byte(crlf(nested)))
	f.Add([]byte("Content-Type: multipart/x;boundary=b\n\n--b\n\n--b\r\nContent-Type: message/rfc822\r\n\r\n--b--"))
	f.Add([]byte("From: \"a\\\" <b@c, d:e;,f@[\nTo: (((\nContent-Type: a/b;c*0*=\"d"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		p := parse(t, string(msg))
		var check func(p *Part, lo, hi int64)
		check = func(p *Part, lo, hi int64) {
			require.True(t, lo <= p.Header && p.Header <= p.Body && p.Body <= p.End && p.End <= hi, "%d <= %d %d %d <= %d", lo, p.Header, p.Body, p.End, hi)
			require.EqualValues(t, strings.Count(string(msg[p.Body:p.End]), "\n"), p.Lines)
			at := p.Body
			for _, q := range p.Parts {
				check(q, at, p.End)
				at = q.End
			}
			if p.Message != nil {
				check(p.Message, p.Body, p.End)
			}
		}
		check(p, 0, int64(len(msg)))
		for _, utf8 := range []bool{false, true} {
			rest, err := skipValue(p.AppendStructure(nil, true, utf8))
			require.NoError(t, err)
			require.Empty(t, rest)
			rest, err = skipValue(p.Envelope.AppendEnvelope(nil, utf8))
			require.NoError(t, err)
			require.Empty(t, rest)
		}
		for _, number := range [][]uint32{nil, {1}, {2}, {1, 1}, {1, 1, 1}, {2, 1}, {1, 2}, {9}} {
			for _, text := range []Text{Whole, Header, Body, MIME} {
				if start, end, ok := p.Section(number, text); ok {
					require.True(t, 0 <= start && start <= end && end <= int64(len(msg)), "%v %d: %d to %d", number, text, start, end)
				}
			}
		}
		h, err := ParseHeader(strings.NewReader(string(msg)), int64(len(msg)))
		require.NoError(t, err)
		require.Equal(t, p.Envelope, h.Envelope)
		checkDigest(t, string(msg), p, h)
		_, err = FilterHeader(strings.NewReader(string(msg)), p.Header, p.Body, []string{"Subject"}, true)
		require.NoError(t, err)
	})
}

// checkDigest proves that a digest tells what the message told.
func checkDigest(t *testing.T, msg string, p, h *Part) {
	for _, header := range []bool{false, true} {
		d, err := NewDigest(strings.NewReader(msg), int64(len(msg)), p, header)
		require.NoError(t, err)
		d, err = ParseDigest(d.Append(nil))
		require.NoError(t, err)
		require.EqualValues(t, len(msg), d.Size)
		got, err := d.Header()
		require.NoError(t, err)
		got.Header = h.Header
		require.Equal(t, h, got)
		names := []string{"subject", "to", "content-type"}
		want, err := FilterHeader(strings.NewReader(msg), 0, p.Body, names, false)
		require.NoError(t, err)
		fields, err := FilterHeader(strings.NewReader(string(d.Head)), 0, int64(len(d.Head)), names, false)
		require.NoError(t, err)
		require.Equal(t, want, fields)
		require.Equal(t, !header, d.HasTree())
		if !header {
			tree, err := d.Tree()
			require.NoError(t, err)
			tree.Envelope = p.Envelope
			require.Equal(t, p.AppendStructure(nil, true, true), tree.AppendStructure(nil, true, true))
			require.Equal(t, p.Find([]uint32{1}), tree.Find([]uint32{1}))
		}
	}
}

func TestDigest(t *testing.T) {
	for _, msg := range []string{nested, "Subject: x", "", "\nbody", "no field\n more\nTo: a@x\n\nSubject: body"} {
		p := parse(t, crlf(msg))
		h, err := ParseHeader(strings.NewReader(crlf(msg)), int64(len(crlf(msg))))
		require.NoError(t, err)
		checkDigest(t, crlf(msg), p, h)
	}
	assert.True(t, IsKept("Message-ID") && IsKept("SUBJECT") && !IsKept("Received"))
}

// Whatever a digest holds, reading it does no harm.
func FuzzDigest(f *testing.F) {
	p, err := Parse(strings.NewReader(nested), int64(len(nested)))
	require.NoError(f, err)
	d, err := NewDigest(strings.NewReader(nested), int64(len(nested)), p, false)
	require.NoError(f, err)
	f.Add(d.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDigest(b)
		if err != nil {
			return
		}
		_, _ = d.Header()
		if p, err := d.Tree(); err == nil && d.HasTree() {
			require.NotNil(t, p)
			_ = p.Find([]uint32{1})
		}
	})
}

// skipValue is an independent reader of IMAP's nested lists.
func skipValue(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("a value is missing")
	}
	switch {
	case b[0] == '(':
		b = b[1:]
		for len(b) > 0 && b[0] != ')' {
			var err error
			if b, err = skipValue(b); err != nil {
				return nil, err
			}
			if len(b) > 1 && b[0] == ' ' && b[1] != ' ' && b[1] != ')' {
				b = b[1:]
			} else if len(b) > 0 && b[0] != ')' && b[0] != '(' {
				return nil, fmt.Errorf("no space before %q", b)
			}
		}
		if len(b) == 0 {
			return nil, fmt.Errorf("a list without end")
		}
		return b[1:], nil
	case b[0] == '"':
		for i := 1; i < len(b); i++ {
			switch c := b[i]; {
			case c == '\\':
				i++
			case c == '"':
				return b[i+1:], nil
			case c == '\r' || c == '\n' || c == 0:
				return nil, fmt.Errorf("control character in %q", b)
			}
		}
		return nil, fmt.Errorf("a string without end")
	case b[0] == '{':
		var n int
		var sep string
		if _, err := fmt.Sscanf(string(b), "{%d}%1s", &n, &sep); err != nil && !strings.Contains(string(b), "}\r\n") {
			return nil, err
		}
		i := strings.Index(string(b), "}\r\n") + 3
		if len(b) < i+n {
			return nil, fmt.Errorf("a literal without end")
		}
		return b[i+n:], nil
	default:
		i := 0
		for i < len(b) && (b[i] >= '0' && b[i] <= '9' || b[i] >= 'A' && b[i] <= 'Z') {
			i++
		}
		if i == 0 {
			return nil, fmt.Errorf("unexpected %q", b)
		}
		return b[i:], nil
	}
}
