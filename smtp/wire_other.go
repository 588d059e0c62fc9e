//go:build !unix

package smtp

import (
	"net"
	"syscall"
)

// rawConn returns nil: waits go through Read.
func rawConn(net.Conn) syscall.RawConn { return nil }

func (w *wire) readReady(uintptr) bool { return true }
