package spamd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/internal/daemontest"
	"github.com/mailblocks/mailblocks/spam/spamd"
)

func message(text string) *spam.Message {
	return &spam.Message{Source: strings.NewReader(text), Size: int64(len(text))}
}

// request reads what a client asks.
func request(c net.Conn) (line string, head textproto.MIMEHeader, body string, err error) {
	r := textproto.NewReader(bufio.NewReader(c))
	if line, err = r.ReadLine(); err != nil {
		return
	}
	if head, err = r.ReadMIMEHeader(); err != nil {
		return
	}
	n, err := strconv.Atoi(head.Get("Content-Length"))
	if err != nil {
		return
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r.R, b)
	return line, head, string(b), err
}

func answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, _, _, err := request(c); err == nil {
			_, _ = io.WriteString(c, text)
		}
	}
}

func symbols(spam, text string) string {
	return fmt.Sprintf("SPAMD/1.1 0 EX_OK\r\nContent-length: %d\r\nSpam: %s\r\n\r\n%s", len(text), spam, text)
}

func TestCheck(t *testing.T) {
	asked := make(chan string, 1)
	c := &spamd.Client{User: func(e *spam.Envelope) string { return e.Identity }, Addr: daemontest.Fake(t, func(c net.Conn) {
		line, head, body, err := request(c)
		asked <- fmt.Sprint(line, head["User"], body, err)
		_, _ = io.WriteString(c, symbols("True ; 15.0 / 5.0", "BAYES_99,URIBL_BLACK\r\n"))
	})}
	assert.Equal(t, "spamd", c.Name())
	assert.Equal(t, spam.Data, c.Stage())
	v, err := c.Check(t.Context(), &spam.Envelope{Identity: "alice"}, message("Subject: x\r\n\r\nx"))
	require.NoError(t, err)
	assert.Equal(t, "SYMBOLS SPAMC/1.5[alice]Subject: x\r\n\r\nx<nil>", <-asked)
	assert.Equal(t, spam.Junk, v.Action)
	assert.InDelta(t, 6, v.Score, 1e-9)
	assert.Equal(t, "spamd(BAYES_99,URIBL_BLACK)=+6.00", v.Reasons[0].String())
	assert.False(t, v.Unsure)
	_, err = c.Check(t.Context(), &spam.Envelope{Identity: "x\r\nUser: root"}, message("x"))
	assert.Error(t, err)

	v, err = (&spamd.Client{Addr: daemontest.Fake(t, answer(symbols("False ; -1.0 / 5.0", "")))}).Check(t.Context(), nil, message("x"))
	require.NoError(t, err)
	assert.Equal(t, spam.Accept, v.Action)
	assert.InDelta(t, -3.6, v.Score, 1e-9)

	v, err = (&spamd.Client{MaxSize: 3}).Check(t.Context(), nil, message("1234"))
	require.NoError(t, err)
	assert.True(t, v.Unsure)
	assert.Equal(t, "spamd-too-large", v.Reasons[0].Name)
}

func TestTrouble(t *testing.T) {
	for name, do := range map[string]func(net.Conn){
		"hangs up at once":  func(net.Conn) {},
		"no answer":         func(c net.Conn) { _, _, _, _ = request(c) },
		"refuses early":     func(c net.Conn) { _, _ = io.WriteString(c, "SPAMD/1.0 76 Bad header line\r\n") },
		"error":             answer("SPAMD/1.1 74 EX_IOERR\r\n\r\n"),
		"half an answer":    answer("SPAMD/1.1 0 EX_OK\r\nContent-le"),
		"half the symbols":  answer("SPAMD/1.1 0 EX_OK\r\nContent-length: 100\r\nSpam: True ; 1 / 5\r\n\r\nX"),
		"no score":          answer(symbols("True", "X")),
		"a score that lies": answer(symbols("True ; NaN / Inf", "X")),
		"another protocol":  answer("220 mx.test ESMTP\r\n"),
		"a flood":           func(c net.Conn) { _, _, _, _ = request(c); _, _ = io.Copy(c, daemontest.Endless) },
	} {
		_, err := (&spamd.Client{Addr: daemontest.Fake(t, do)}).Check(t.Context(), nil, message("text"))
		assert.Error(t, err, name)
	}
	_, err := (&spamd.Client{Addr: "127.0.0.1:1"}).Check(t.Context(), nil, message("text"))
	assert.Error(t, err)
	_, err = new(spamd.Client).Check(t.Context(), nil, new(spam.Message))
	assert.ErrorIs(t, err, spam.ErrNoSource)
}

func TestStall(t *testing.T) {
	met, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-met; cancel() }()
	_, err := (&spamd.Client{Addr: daemontest.Fake(t, func(net.Conn) { met <- struct{}{}; <-end })}).Check(ctx, nil, message("text"))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestLearn(t *testing.T) {
	asked := make(chan string, 1)
	c := &spamd.Client{Addr: daemontest.Fake(t, func(c net.Conn) {
		line, head, _, _ := request(c)
		asked <- fmt.Sprint(line, head["Message-Class"], head["Set"], head["Remove"])
		_, _ = io.WriteString(c, "SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\nContent-length: 0\r\n\r\n")
	})}
	for l, want := range map[spam.Label]string{
		spam.Spam:       "TELL SPAMC/1.5[spam] [local] []",
		spam.Ham:        "TELL SPAMC/1.5[ham] [local] []",
		spam.Unlabelled: "TELL SPAMC/1.5[] [] [local]",
	} {
		require.NoError(t, c.Learn(t.Context(), nil, message("x"), l))
		assert.Equal(t, want, <-asked)
	}
	assert.NoError(t, (&spamd.Client{Addr: "127.0.0.1:1"}).Learn(t.Context(), nil, message("x"), spam.Neutral), "nobody is asked")
	err := (&spamd.Client{Addr: daemontest.Fake(t, answer("SPAMD/1.1 69 Service Unavailable: TELL commands are not enabled\r\n\r\n"))}).Learn(t.Context(), nil, message("x"), spam.Ham)
	assert.ErrorIs(t, err, spamd.ErrRefused)
}

// gtube is the test string that SpamAssassin calls spam.
const gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

func TestInterop(t *testing.T) {
	path := "/usr/sbin/spamd"
	if _, err := os.Stat(path); err != nil {
		shared.Missing(t, "spamd")
	}
	c := &spamd.Client{Addr: daemontest.FreeAddr(t)}
	host, port, err := net.SplitHostPort(c.Addr)
	require.NoError(t, err)
	home := t.TempDir()
	cmd := exec.Command(path, "--local", "--nouser-config", "--max-children=1", "--min-children=1", "--allow-tell", "-i", host, "-p", port, "-H", home, "--syslog=stderr",
		"--cf=use_bayes 1", "--cf=bayes_path "+home+"/bayes", "--cf=bayes_min_ham_num 1", "--cf=bayes_min_spam_num 1")
	head := "From: a@example.org\r\nTo: b@example.org\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nSubject: test\r\n\r\n"
	var v spam.Verdict
	daemontest.Run(t, cmd, func() (err error) {
		v, err = c.Check(t.Context(), nil, message(head+gtube+"\r\n"))
		if errors.Is(err, spamd.ErrRefused) {
			t.Fatal(err)
		}
		return err
	})
	assert.Equal(t, spam.Junk, v.Action)
	assert.Contains(t, v.Reasons[0].Text, "GTUBE")
	ham := message(head + "Shall we have lunch on Friday?\r\n")
	v, err = c.Check(t.Context(), nil, ham)
	require.NoError(t, err)
	assert.Negative(t, v.Score)
	for _, l := range []spam.Label{spam.Ham, spam.Spam, spam.Unlabelled} {
		assert.NoError(t, c.Learn(t.Context(), nil, ham, l), l.String())
	}
}
