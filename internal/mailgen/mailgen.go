// Package mailgen makes up mail for measurements: messages like those that people and programs
// send, the same ones each time. 20,000 of them have about 670 MB: one in three is plain text,
// one in three has HTML beside it, the rest have attachments or messages in them.
package mailgen

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Message returns the n'th message, counted from 0, with CRLF line ends.
func Message(n int) []byte {
	g := generator{rng: rand.New(rand.NewPCG(uint64(n), 20260101)), n: n}
	g.message(0)
	return g.out.Bytes()
}

// Date returns when the n'th message came in.
func Date(n int) time.Time { return time.Unix(1600000000+int64(n)*977, 0).UTC() }

// Maildir makes a Maildir at dir that holds the first n messages in cur/, some of them with
// flags, with LF line ends as most programs store them, or with CRLF.
func Maildir(dir string, n int, crlf bool) error {
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			return err
		}
	}
	for i := range n {
		msg := Message(i)
		size := len(msg)
		if !crlf {
			msg = bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))
		}
		flags := []string{"", "S", "S", "RS", "FS"}[i%5]
		path := filepath.Join(dir, "cur", fmt.Sprintf("%d.M%06dP1.mx,S=%d,W=%d:2,%s", Date(i).Unix(), i, len(msg), size, flags))
		if err := os.WriteFile(path, msg, 0o666); err != nil {
			return err
		}
		if err := os.Chtimes(path, Date(i), Date(i)); err != nil {
			return err
		}
	}
	return nil
}

type generator struct {
	rng *rand.Rand
	n   int
	out bytes.Buffer
}

var (
	nouns = strings.Fields(`report meeting invoice budget plan contract release server customer garden train weather
		holiday recipe music library project schedule answer question number office window market paper
		agreement delivery order payment ticket update version network account holiday picture letter story
		river mountain bicycle kitchen teacher doctor engineer concert theatre newspaper company system`)
	verbs = strings.Fields(`sends reads writes takes gives shows keeps brings makes finds opens closes moves changes
		asks answers builds checks follows meets needs offers pays plans remembers sells tells waits wants`)
	small = strings.Fields(`the a this that of in on with for and but or as by from to at over under about after before
		not now then here there still again soon always never often very quite only just`)
	names = strings.Fields(`Ann Bea Carl Dora Emil Fred Gina Hugo Ines Jack Kate Liam Mona Nils Olga Paul Quin Rosa
		Sven Tina Ulli Vera Walt Xena Yves Zoe`)
	hosts = strings.Fields(`example.org example.com example.net mail.test lists.test shop.test news.test office.test`)
)

func (g *generator) pick(list []string) string { return list[g.rng.IntN(len(list))] }

func (g *generator) person() string {
	first, last := g.pick(names), g.pick(nouns)
	addr := fmt.Sprintf("%s.%s@%s", strings.ToLower(first), last, g.pick(hosts))
	switch g.rng.IntN(6) {
	case 0:
		return addr
	case 1:
		return fmt.Sprintf(`"%s, %s" <%s>`, strings.ToUpper(last[:1])+last[1:], first, addr)
	case 2:
		return fmt.Sprintf("=?utf-8?Q?%s_Gr=C3=BCn?= <%s>", first, addr)
	default:
		return fmt.Sprintf("%s %s <%s>", first, strings.ToUpper(last[:1])+last[1:], addr)
	}
}

func (g *generator) people(most int) string {
	list := make([]string, 1+g.rng.IntN(most))
	for i := range list {
		list[i] = g.person()
	}
	return strings.Join(list, ",\r\n\t")
}

func (g *generator) token(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return base64.StdEncoding.EncodeToString(b)
}

func id(n int) string {
	return fmt.Sprintf("<%08x.%d@%s>", uint32(n)*2654435761, n, hosts[n%len(hosts)])
}

// thread returns the messages that n answers, the eldest first: conversations are of up to 12
// messages that came within the last 200.
func thread(n int) (refs []int) {
	for len(refs) < 11 && n > 0 && n*7919%10 < 6 {
		n -= 1 + n*104729%min(n, 200)
		refs = append([]int{n}, refs...)
	}
	return refs
}

func subject(n int) string {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	words := make([]string, 3+rng.IntN(6))
	for i := range words {
		words[i] = [][]string{nouns, verbs, small}[i%3][rng.IntN(26)]
	}
	s := strings.Join(words, " ")
	if rng.IntN(8) == 0 {
		return "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte("Über "+s)) + "?="
	}
	return s
}

func (g *generator) line(format string, args ...any) {
	fmt.Fprintf(&g.out, format, args...)
	g.out.WriteString("\r\n")
}

// message writes a message; depth counts those it is in.
func (g *generator) message(depth int) {
	refs := thread(g.n)
	date := Date(g.n)
	g.line("Return-Path: <%s@%s>", g.pick(nouns), g.pick(hosts))
	for i := range 2 + g.rng.IntN(4) {
		g.line("Received: from mx%d.%s (mx%d.%s [192.0.2.%d])\r\n\tby in.%s with ESMTPS id %s\r\n\tfor <ann@example.org>; %s",
			i, g.pick(hosts), i, g.pick(hosts), g.rng.IntN(250), g.pick(hosts), g.token(9), date.Format(time.RFC1123Z))
	}
	g.line("Authentication-Results: in.example.org; dkim=pass header.d=%s;\r\n\tspf=pass smtp.mailfrom=%s; dmarc=pass", g.pick(hosts), g.pick(hosts))
	sig := g.token(256)
	g.line("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%s; s=s%d;\r\n\th=from:to:subject:date:message-id; bh=%s;\r\n\tb=%s\r\n\t %s\r\n\t %s",
		g.pick(hosts), g.rng.IntN(9), g.token(32), sig[:120], sig[120:240], sig[240:])
	g.line("Date: %s", date.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	g.line("From: %s", g.person())
	g.line("To: %s", g.people(3))
	if g.rng.IntN(4) == 0 {
		g.line("Cc: %s", g.people(6))
	}
	if g.rng.IntN(5) == 0 {
		g.line("Reply-To: %s", g.person())
	}
	g.line("Message-ID: %s", id(g.n))
	if len(refs) > 0 {
		ids := make([]string, len(refs))
		for i, r := range refs {
			ids[i] = id(r)
		}
		g.line("In-Reply-To: %s", ids[len(ids)-1])
		g.line("References: %s", strings.Join(ids, "\r\n\t"))
		g.line("Subject: Re: %s", subject(refs[0]))
	} else {
		g.line("Subject: %s", subject(g.n))
	}
	if g.rng.IntN(3) == 0 {
		g.line("List-Id: <%s.%s>\r\nList-Unsubscribe: <https://%s/u/%s>", g.pick(nouns), g.pick(hosts), g.pick(hosts), g.token(24))
		g.line("Precedence: list")
	}
	g.line("X-Mailer: Mailgen %d.%d", g.rng.IntN(9), g.rng.IntN(20))
	g.line("MIME-Version: 1.0")
	switch kind := g.rng.IntN(100); {
	case kind < 34 || depth > 1:
		g.text(2 + g.rng.IntN(12))
	case kind < 68:
		g.alternative()
	case kind < 96:
		g.multipart("mixed", func(part func()) {
			part()
			g.alternative()
			for range 1 + g.rng.IntN(3) {
				part()
				g.attachment()
			}
		})
	default:
		g.multipart("mixed", func(part func()) {
			part()
			g.text(2)
			part()
			g.line("Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n")
			g.message(depth + 1)
		})
	}
}

// multipart writes the parts that body begins with the function it is given.
func (g *generator) multipart(subtype string, body func(part func())) {
	boundary := fmt.Sprintf("=_%x_%d", g.rng.Uint64(), g.n)
	g.line("Content-Type: multipart/%s;\r\n\tboundary=\"%s\"\r\n", subtype, boundary)
	if subtype == "mixed" {
		g.line("This is a message in several parts.\r\n")
	}
	body(func() { g.line("--%s", boundary) })
	g.line("--%s--", boundary)
}

func (g *generator) alternative() {
	g.multipart("alternative", func(part func()) {
		part()
		n := 3 + g.rng.IntN(12)
		g.text(n)
		part()
		g.html(2 * n)
	})
}

func (g *generator) sentence() string {
	words := make([]string, 6+g.rng.IntN(10))
	for i := range words {
		words[i] = g.pick([][]string{small, nouns, verbs}[g.rng.IntN(3)])
	}
	return strings.ToUpper(words[0][:1]) + strings.Join(words, " ")[1:] + ". "
}

// text writes a part of plain text, one in three as quoted-printable.
func (g *generator) text(paragraphs int) {
	quoted := g.rng.IntN(3) == 0
	if quoted {
		g.line("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n")
	} else {
		g.line("Content-Type: text/plain; charset=us-ascii\r\n")
	}
	for range paragraphs {
		var b strings.Builder
		for range 2 + g.rng.IntN(5) {
			b.WriteString(g.sentence())
		}
		for words, width := strings.Fields(b.String()), 0; len(words) > 0; words = words[1:] {
			if width += len(words[0]) + 1; width > 70 {
				g.out.WriteString("\r\n")
				width = len(words[0])
			}
			g.out.WriteString(words[0])
			if quoted && g.rng.IntN(12) == 0 {
				g.out.WriteString("=C3=A9")
				width += 6
			}
			g.out.WriteByte(' ')
		}
		g.line("\r\n")
	}
}

// html writes what newsletters are made of, as quoted-printable.
func (g *generator) html(paragraphs int) {
	g.line("Content-Type: text/html; charset=\"utf-8\"\r\nContent-Transfer-Encoding: quoted-printable\r\n")
	g.line("<html><head><style>td { font-family: sans-serif; padding: 4px }</style></head><body><table>")
	for range paragraphs {
		g.line("<tr><td style=3D\"color:#%06x\"><a href=3D\"https://%s/%s=\r\n\">%s</a></td>", g.rng.IntN(1<<24), g.pick(hosts), strings.ReplaceAll(g.token(15), "=", ""), g.pick(nouns))
		g.line("<td>%s=\r\n%s</td></tr>", g.sentence(), g.sentence())
	}
	g.line("</table></body></html>")
}

// attachment writes a file of up to 100 KB.
func (g *generator) attachment() {
	name := fmt.Sprintf("%s-%d", g.pick(nouns), g.rng.IntN(1000))
	kind := g.rng.IntN(3)
	g.line("Content-Type: %s;\r\n\tname=\"%s.%s\"", []string{"application/pdf", "image/jpeg", "application/vnd.ms-excel"}[kind], name, []string{"pdf", "jpg", "xls"}[kind])
	g.line("Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n\tfilename=\"%s.%s\"; size=%d\r\n", name, []string{"pdf", "jpg", "xls"}[kind], g.rng.IntN(100000))
	size := 5<<10 + g.rng.IntN(50<<10)
	if g.rng.IntN(8) == 0 {
		size *= 3
	}
	for s := g.token(size); s != ""; s = s[min(76, len(s)):] {
		g.line("%s", s[:min(76, len(s))])
	}
}
