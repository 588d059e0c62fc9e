// Package daemontest has what the tests of the checks over sockets share: a listener that does as it is told, and
// a real daemon run for a test.
package daemontest

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Fake serves each connection with do, until the test ends, and returns its address.
func Fake(t *testing.T, do func(c net.Conn)) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				do(c)
			}()
		}
	}()
	return l.Addr().String()
}

// FreeAddr returns an address that nobody listens on, most likely.
func FreeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Run starts a daemon with a process group of its own, waits until ready says that it answers, and ends it with the test. One that
// ends by itself skips the test: a peer that can't run is as good as missing.
func Run(t *testing.T, cmd *exec.Cmd, ready func() error) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out")) // no pipe: its children may hold it open
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	alone(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); out.Close(); close(ended) }()
	t.Cleanup(func() { kill(cmd); <-ended })
	for ready() != nil {
		select {
		case <-ended:
			said, _ := os.ReadFile(out.Name())
			t.Skipf("%s does not start: %s", cmd.Path, said)
		case <-t.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Endless yields octets for ever.
var Endless io.Reader = endless{}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "xxxxxxxx"), nil }
