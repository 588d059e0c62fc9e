package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv("IMAPMEM_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestServesAndEnds(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-imap", "127.0.0.1:0", "-user", "alice:secret")
	cmd.Env = append(os.Environ(), "IMAPMEM_CHILD=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	conn, err := net.Dial("tcp", strings.TrimSpace(strings.TrimPrefix(line, "listening imap ")))
	require.NoError(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(conn)
	expect := func(prefix string) {
		for {
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			if strings.HasPrefix(line, prefix) {
				return
			}
		}
	}
	expect("* OK")
	_, err = conn.Write([]byte("a LOGIN alice secret\r\nb APPEND INBOX {6+}\r\nhello\n\r\nc STATUS INBOX (MESSAGES)\r\n"))
	require.NoError(t, err)
	expect("a OK")
	expect("b OK")
	expect("* STATUS INBOX (MESSAGES 1)")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	expect("* BYE")
	assert.NoError(t, cmd.Wait())
}
