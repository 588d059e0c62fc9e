package clamd_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/clamd"
	"github.com/mailblocks/mailblocks/spam/internal/daemontest"
)

// fake is a daemon that does with each connection what do says.
func fake(t *testing.T, do func(c net.Conn)) *clamd.Client {
	return &clamd.Client{Addr: daemontest.Fake(t, do)}
}

// stream reads what a client sends by INSTREAM.
func stream(c net.Conn) (body []byte, err error) {
	head := make([]byte, len("zINSTREAM\x00"))
	if _, err := io.ReadFull(c, head); err != nil || string(head) != "zINSTREAM\x00" {
		return nil, errors.New("no INSTREAM")
	}
	for {
		var n uint32
		if err := binary.Read(c, binary.BigEndian, &n); err != nil || n == 0 {
			return body, err
		}
		chunk := make([]byte, n)
		if _, err := io.ReadFull(c, chunk); err != nil {
			return nil, err
		}
		body = append(body, chunk...)
	}
}

func answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := stream(c); err == nil {
			_, _ = io.WriteString(c, text)
		}
	}
}

func TestScan(t *testing.T) {
	text := strings.Repeat("0123456789", 20000)
	c := fake(t, func(c net.Conn) {
		body, err := stream(c)
		if err == nil && string(body) == text {
			_, _ = io.WriteString(c, "stream: Eicar-Test FOUND\x00")
		}
	})
	virus, err := c.Scan(t.Context(), strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, "Eicar-Test", virus)

	virus, err = fake(t, answer("stream: OK\x00")).Scan(t.Context(), strings.NewReader(""))
	require.NoError(t, err)
	assert.Empty(t, virus)
}

// The daemon has had enough while we are still sending, says so and hangs up.
func TestTooLarge(t *testing.T) {
	early := fake(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, 1000))
		_, _ = io.WriteString(c, "INSTREAM size limit exceeded. ERROR\x00")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.CopyN(io.Discard, c, 1<<20) // so that the reset does not overtake the answer
	})
	_, err := early.Scan(t.Context(), bytes.NewReader(make([]byte, 20<<20)))
	require.ErrorIs(t, err, clamd.ErrTooLarge)

	c := fake(t, answer("stream: OK\x00"))
	c.MaxSize = 1 << 20
	_, err = c.Scan(t.Context(), bytes.NewReader(make([]byte, 1<<20)))
	require.NoError(t, err)
	_, err = c.Scan(t.Context(), bytes.NewReader(make([]byte, 1<<20+1)))
	require.ErrorIs(t, err, clamd.ErrTooLarge)

	for _, action := range []spam.Action{spam.Accept, spam.Defer} {
		c.TooLarge = action
		v, err := c.Check(t.Context(), nil, &spam.Message{Source: bytes.NewReader(make([]byte, 2<<20)), Size: 2 << 20})
		require.NoError(t, err, "it is a result")
		assert.Equal(t, action, v.Action)
		assert.Equal(t, "clamd-too-large", v.Reasons[0].Name)
	}
}

func TestTrouble(t *testing.T) {
	for name, do := range map[string]func(net.Conn){
		"hangs up at once":  func(net.Conn) {},
		"hangs up midway":   func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 12)) },
		"no answer":         func(c net.Conn) { _, _ = stream(c) },
		"half an answer":    answer("stream: O"),
		"error":             answer("INSTREAM: Can't allocate memory ERROR\x00"),
		"nonsense":          answer("220 mx.test ESMTP\x00"),
		"a flood":           func(c net.Conn) { _, _ = stream(c); _, _ = io.Copy(c, daemontest.Endless) },
		"OK without stream": answer("OK\x00"),
	} {
		virus, err := fake(t, do).Scan(t.Context(), strings.NewReader("text"))
		assert.Error(t, err, name)
		assert.NotErrorIs(t, err, clamd.ErrTooLarge, name)
		assert.Empty(t, virus, name)
	}
	_, err := (&clamd.Client{Addr: "127.0.0.1:1"}).Scan(t.Context(), strings.NewReader("text"))
	assert.Error(t, err)
	_, err = fake(t, answer("stream: OK\x00")).Scan(t.Context(), io.MultiReader(strings.NewReader("x"), broken{}))
	assert.ErrorIs(t, err, errBroken)
	_, err = new(clamd.Client).Check(t.Context(), nil, new(spam.Message))
	assert.ErrorIs(t, err, spam.ErrNoSource)
}

var errBroken = errors.New("disk broken")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// One that stalls is left when the context ends, before, amid and behind the message.
func TestStall(t *testing.T) {
	met := make(chan struct{})
	end := make(chan struct{})
	defer close(end)
	c := fake(t, func(net.Conn) { met <- struct{}{}; <-end })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-met; cancel() }()
	_, err := c.Scan(ctx, io.LimitReader(daemontest.Endless, 20<<20))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestCheck(t *testing.T) {
	m := &spam.Message{Source: strings.NewReader("text"), Size: 4}
	c := fake(t, answer("stream: Bad\x01Thing FOUND\x00"))
	assert.Equal(t, "clamd", c.Name())
	assert.Equal(t, spam.Data, c.Stage())
	v, err := c.Check(t.Context(), nil, m)
	require.NoError(t, err)
	assert.Equal(t, spam.Reject, v.Action)
	assert.Equal(t, "virus(Bad Thing)=+20.00", v.Reasons[0].String())
	c.Action = spam.Junk
	v, err = c.Check(t.Context(), nil, m)
	require.NoError(t, err)
	assert.Equal(t, spam.Junk, v.Action)
	v, err = fake(t, answer("stream: OK\x00")).Check(t.Context(), nil, m)
	require.NoError(t, err)
	assert.Equal(t, spam.Accept, v.Action)
}

// eicar is the test string that scanners agree to find, in two parts so that none finds it here.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR` + `-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// TestInterop has Debian's daemon scan, with a database of this one signature.
func TestInterop(t *testing.T) {
	path, err := exec.LookPath("clamd")
	if err != nil {
		path = "/usr/sbin/clamd"
		if _, err := os.Stat(path); err != nil {
			shared.Missing(t, "clamd")
		}
	}
	dir, err := os.MkdirTemp("", "clamd") // a short path, for the socket's sake
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	write("test.hdb", "44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test\n")
	conf := "Foreground yes\nDatabaseDirectory " + dir + "\nLocalSocket " + dir + "/s\nStreamMaxLength 1M\n"
	if os.Getuid() == 0 {
		conf += "User root\n"
	}
	c := &clamd.Client{Addr: "unix:" + dir + "/s"}
	daemontest.Run(t, exec.Command(path, "-c", write("clamd.conf", conf)), func() error { return c.Ping(t.Context()) })
	virus, err := c.Scan(t.Context(), strings.NewReader(eicar))
	require.NoError(t, err)
	assert.Contains(t, virus, "Eicar-Test")
	mail := "From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=x.com\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(eicar)) + "\r\n"
	v, err := c.Check(t.Context(), nil, &spam.Message{Source: strings.NewReader(mail), Size: int64(len(mail))})
	require.NoError(t, err)
	assert.Equal(t, spam.Reject, v.Action)
	virus, err = c.Scan(t.Context(), strings.NewReader("From: a@example.org\r\n\r\nhello\r\n"))
	require.NoError(t, err)
	assert.Empty(t, virus)
	_, err = c.Scan(t.Context(), bytes.NewReader(make([]byte, 8<<20)))
	assert.ErrorIs(t, err, clamd.ErrTooLarge)
}
