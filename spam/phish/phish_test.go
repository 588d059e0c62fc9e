package phish_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/phish"
)

func parse(t testing.TB, text string) *spam.Message {
	m, err := spam.Parse(strings.NewReader(text), spam.Limits{})
	require.NoError(t, err)
	return m
}

func names(t testing.TB, o phish.Options, text string) (all []string) {
	v, err := phish.New(o).Check(t.Context(), nil, parse(t, text))
	require.NoError(t, err)
	sum := 0.0
	for _, r := range v.Reasons {
		all = append(all, strings.TrimPrefix(r.Name, "phish-"))
		sum += r.Score
	}
	assert.InDelta(t, v.Score, sum, 1e-9)
	assert.Equal(t, sum >= 4, v.Action == spam.Junk)
	return all
}

func TestAuthor(t *testing.T) {
	for from, want := range map[string][]string{
		`"PayPal Service" <a@pay-secure.example>`:        {"brand"},
		`"PayPal" <service@mail.paypal.com>`:             nil,
		`"PаyPаl" <a@pay-secure.example>`:                {"brand", "mixed-script"}, // two letters are Cyrillic
		"\"Pay\u200bPal\" <a@pay-secure.example>":        {"brand", "invisible"},
		`"𝐏𝐚𝐲𝐏𝐚𝐥" <a@pay-secure.example>`:                {"brand", "styled-letters"},
		`"Иван Петров" <ivan@example.org>`:               nil,
		`"Repaypaler" <a@example.org>`:                   nil,
		`"Chase Miller" <chase@example.org>`:             {"brand"}, // not enough by itself
		`"ceo@example.com" <x@shop.example>`:             {"name-address"},
		`"Ann (ann@example.org)" <ann@mail.example.org>`: nil,
	} {
		assert.ElementsMatch(t, want, names(t, phish.Options{}, "From: "+from+"\r\nSubject: hello\r\n\r\nx\r\n"), from)
	}
	assert.Equal(t, []string{"reply-to"}, names(t, phish.Options{}, "From: a@company.example\r\nReply-To: a.company@gmail.com\r\n\r\nx\r\n"))
	assert.Equal(t, []string{"mixed-script"}, names(t, phish.Options{}, "From: a@example.org\r\nSubject: Your ассount\r\n\r\nx\r\n"))

	o := phish.Options{Brands: map[string][]string{"our bank": {"bank.example"}, "paypal": nil}}
	assert.Equal(t, []string{"brand"}, names(t, o, "From: Our Bank <a@other.example>\r\n\r\nx"))
	assert.Empty(t, names(t, o, "From: Our Bank <a@mail.bank.example>\r\n\r\nx"))
	assert.Empty(t, names(t, o, "From: PayPal <a@other.example>\r\n\r\nx"))
}

func TestLinks(t *testing.T) {
	for link, want := range map[string][]string{
		`<a href="https://example.org/">https://example.org/</a>`:                                                  nil,
		`<a href="https://click.mailer.example/x">our site</a>`:                                                    nil,
		`<a href="https://evil.example/">https://www.bank.test/login</a>`:                                          {"link-text"},
		`<a href="https://evil.example/">www.bank.test</a>`:                                                        {"link-text"},
		`<a href="https://www.bank.test@evil.example/">x</a>`:                                                      {"userinfo"},
		`<a href="http://198.51.100.7/login">x</a>`:                                                                {"address"},
		`<a href="https://xn--pypal-4ve.example/">x</a>`:                                                           {"punycode"},
		`<a href="https://bit.ly/3x">x</a>`:                                                                        {"shortener"},
		`<a href="https://ads.test/go?url=https%3A%2F%2Fevil.example%2F">x</a>`:                                    {"redirect"},
		`<a href="https://paypal.com.secure.evil.example/">x</a>`:                                                  {"host"},
		`<a href="https://www.paypal.com/">x</a>`:                                                                  nil,
		`<form action="https://evil.example/take"><input type="password"></form>`:                                  {"form"},
		`<a href="https://eu.safelinks.protection.outlook.com/?url=https%3A%2F%2Fgithub.com%2Fx">github.com/x</a>`: nil,
		`<a href="https://eu.safelinks.protection.outlook.com/?url=https%3A%2F%2Fevil.example">www.bank.test</a>`:  {"link-text"},
		`<a href="mailto:a@example.org">a@example.org</a><img src="http://198.51.100.7/x.png">`:                    nil,
		`<p>hi</p><div style="display:none">` + strings.Repeat("words that nobody sees ", 40) + `</div>`:           {"hidden-text"},
	} {
		assert.ElementsMatch(t, want, names(t, phish.Options{}, "From: a@example.net\r\nContent-Type: text/html\r\n\r\n"+link), link)
	}
}

func TestCheck(t *testing.T) {
	c := phish.New(phish.Options{JunkAt: 1})
	assert.Equal(t, "phish", c.Name())
	assert.Equal(t, spam.Data, c.Stage())
	v, err := c.Check(t.Context(), nil, nil)
	require.NoError(t, err)
	assert.True(t, v.Unsure)
	v, err = c.Check(t.Context(), nil, parse(t, "From: a@b.example\r\nContent-Type: text/html\r\n\r\n<form action=http://x.example>"))
	require.NoError(t, err)
	assert.Equal(t, spam.Junk, v.Action)
	assert.Equal(t, "phish-form(x.example)=+1.00", v.Reasons[0].String())
}

func FuzzCheck(f *testing.F) {
	f.Add("PаyPal <a@b.example>", "x", "<a href='http://u@1.2.3.4/?q=http://x'>www.y.example</a>")
	f.Add("\xff\u3164@", "\U0001d400", "<form action=//x><a href='http://[::1%25x]/'>http://</a>")
	c := phish.New(phish.Options{})
	f.Fuzz(func(t *testing.T, from, subject, html string) {
		text := "From: " + from + "\r\nSubject: " + subject + "\r\nContent-Type: text/html\r\n\r\n" + html
		v, err := c.Check(context.Background(), nil, parse(t, text))
		if err != nil || math.IsNaN(v.Score) {
			t.Fatal(v, err)
		}
		seen := map[string]bool{}
		for _, r := range v.Reasons {
			if seen[r.Name] || !utf8.ValidString(r.Text) || strings.ContainsAny(r.Text, "\r\n\x00") {
				t.Fatalf("%q", r)
			}
			seen[r.Name] = true
		}
		again, _ := c.Check(context.Background(), nil, parse(t, text))
		if fmt.Sprint(v) != fmt.Sprint(again) {
			t.Fatalf("%v, then %v", v, again)
		}
	})
}

func ExampleNew() {
	m, err := spam.Parse(strings.NewReader("From: PayPal <service@pay-secure.example>\r\nSubject: Your account\r\n\r\nLog in now.\r\n"), spam.Limits{})
	if err != nil {
		panic(err)
	}
	v, _ := phish.New(phish.Options{}).Check(context.Background(), nil, m)
	fmt.Println(v.Action, v.Reasons)
	// Output: junk [phish-brand(paypal from pay-secure.example)=+4.00]
}
