//go:build unix

package smtp

import (
	"io"
	"net"
	"os"
	"syscall"
)

// rawConn returns a way to wait for conn to become readable before a buffer is borrowed
// for it, or nil.
func rawConn(conn net.Conn) syscall.RawConn {
	if c, ok := conn.(carried); ok {
		conn = c.Carrier()
	}
	switch c := conn.(type) {
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	case *net.UnixConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// readReady is called with the descriptor until it returns true, each time after the
// descriptor has become readable.
func (w *wire) readReady(fd uintptr) bool {
	w.borrow()
	for {
		n, err := syscall.Read(int(fd), w.inBuf[w.w:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if w.w == 0 {
				readBuffers.Put(w.inBuf)
				w.inBuf = nil
			}
			return false
		case err != nil:
			w.rawErr = os.NewSyscallError("read", err)
		case n == 0:
			w.rawErr = io.EOF
		default:
			w.rawN = n
		}
		return true
	}
}
