package smtp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mailblocks/mailblocks/internal/netserve"
)

const (
	readBufferSize  = 32 << 10
	writeBufferSize = 4 << 10
	smallRead       = 128 // what a connection without readiness reads into while it idles
)

// Buffers are borrowed while there is something in them, so that an idle connection holds none.
var (
	readBuffers  = sync.Pool{New: func() any { return new([readBufferSize]byte) }}
	writeBuffers = sync.Pool{New: func() any { return new([writeBufferSize]byte) }}
)

// wire is the octets' side of a server connection: buffered input and output, lines,
// deadlines. Replies are kept back until the client's input is used up, so those
// to a pipelined batch leave in one write (RFC 2920, 3.2).
type wire struct {
	lim  *netserve.Conn // the connection as accepted
	conn net.Conn       // lim.Conn, or TLS on top of it
	raw  syscall.RawConn

	inBuf *[readBufferSize]byte // borrowed; nil when idle
	r, w  int                   // unread input is inBuf[r:w]
	out   []byte                // replies not yet written; borrowed
	outB  *[writeBufferSize]byte
	small *[smallRead]byte

	readBy, writeBy time.Time // deadlines as set on conn; they may be later than asked for, see arm
	writeTimeout    time.Duration

	// Of readiness reads: the callback, made once, and what it found.
	rawRead func(fd uintptr) bool
	rawN    int
	rawErr  error
}

// carried is a connection that only pretends to other addresses than those of the connection below,
// as proxyproto.Conn does.
type carried interface{ Carrier() net.Conn }

func (w *wire) init(c *netserve.Conn, writeTimeout time.Duration) {
	w.lim, w.writeTimeout = c, writeTimeout
	w.setConn(c.Conn)
}

// setConn begins to use conn, with nothing read from it.
func (w *wire) setConn(conn net.Conn) {
	w.conn, w.raw = conn, nil
	w.r, w.w = 0, 0
	w.readBy, w.writeBy = time.Time{}, time.Time{}
	w.raw = rawConn(conn)
	if w.raw != nil && w.rawRead == nil {
		w.rawRead = w.readReady
	}
}

// buffered returns the input read but not yet used.
func (w *wire) buffered() []byte {
	if w.inBuf == nil {
		return nil
	}
	return w.inBuf[w.r:w.w]
}

// release gives the buffers back. Unread input and unwritten output are lost.
func (w *wire) release() {
	w.dropIn()
	w.dropOut()
}

func (w *wire) dropIn() {
	if w.inBuf != nil {
		readBuffers.Put(w.inBuf)
		w.inBuf = nil
	}
	w.r, w.w = 0, 0
}

func (w *wire) dropOut() {
	if w.outB != nil {
		writeBuffers.Put(w.outB)
		w.outB, w.out = nil, nil
	}
}

// arm sees to it that reads time out in d at the earliest, and in 2*d at the latest.
// Setting a deadline costs as much as a small read, so it is done only when the one
// that is set has moved out of this range.
func (w *wire) arm(now time.Time, d time.Duration) error {
	if by := now.Add(d); w.readBy.Before(by) || w.readBy.After(by.Add(d)) {
		w.readBy = by.Add(d / 4)
		return w.conn.SetReadDeadline(w.readBy)
	}
	return nil
}

// fill flushes the output and reads more input, at least one octet. With
// idle set, no buffer is held during the wait.
func (w *wire) fill(idle bool) error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.r == w.w {
		w.r, w.w = 0, 0
		if idle {
			w.dropIn()
		}
	} else if w.r > 0 && w.w > readBufferSize/2 {
		w.w = copy(w.inBuf[:], w.inBuf[w.r:w.w])
		w.r = 0
	}
	if w.raw != nil {
		w.rawN, w.rawErr = 0, nil
		if err := w.raw.Read(w.rawRead); err != nil {
			return err
		}
		w.w += w.rawN
		return w.rawErr
	}
	if idle && w.inBuf == nil {
		return w.fillSmall()
	}
	w.borrow()
	n, err := w.conn.Read(w.inBuf[w.w:])
	w.w += n
	if n > 0 {
		return nil
	}
	return err
}

// fillSmall waits without a buffer of its own.
func (w *wire) fillSmall() error {
	if w.small == nil {
		w.small = new([smallRead]byte)
	}
	n, err := w.conn.Read(w.small[:])
	if n > 0 {
		w.borrow()
		w.w = copy(w.inBuf[:], w.small[:n])
		return nil
	}
	return err
}

func (w *wire) borrow() {
	if w.inBuf == nil {
		w.inBuf = readBuffers.Get().(*[readBufferSize]byte)
	}
}

var (
	errLineTooLong = errors.New("smtp: line too long")
	errBareLF      = errors.New("smtp: bare LF")
	errBareCR      = errors.New("smtp: bare CR")
)

// takeLine takes a line off the input that is there and returns it without its CRLF, valid
// until the next fill. It is nil, without an error, when the line's end has not come
// yet; scanned octets are known to hold no LF. A line of more than limit octets is
// errLineTooLong and stays in the input. A bare LF ends the line taken, with
// errBareLF; a bare CR is errBareCR as soon as it is seen to be one.
func (w *wire) takeLine(limit, scanned int) ([]byte, error) {
	in := w.buffered()
	i := bytes.IndexByte(in[scanned:], '\n')
	if i < 0 {
		if len(in) >= limit {
			return nil, errLineTooLong
		}
		if cr := bytes.IndexByte(in, '\r'); cr >= 0 && cr < len(in)-1 {
			return nil, errBareCR
		}
		return nil, nil
	}
	i += scanned
	if i+1 > limit {
		return nil, errLineTooLong
	}
	line := in[:i]
	w.r += i + 1
	if i == 0 || line[i-1] != '\r' {
		return line, errBareLF
	}
	line = line[:i-1]
	if bytes.IndexByte(line, '\r') >= 0 {
		return line, errBareCR
	}
	return line, nil
}

// skipLine reads up to the next LF, at most limit octets.
func (w *wire) skipLine(limit int) error {
	for limit > 0 {
		in := w.buffered()
		if i := bytes.IndexByte(in, '\n'); i >= 0 {
			w.r += i + 1
			return nil
		}
		limit -= len(in)
		w.r = w.w
		if err := w.fill(false); err != nil {
			return err
		}
	}
	return errLineTooLong
}

// write appends to the output.
func (w *wire) write(p []byte) error {
	for {
		if w.outB == nil {
			w.outB = writeBuffers.Get().(*[writeBufferSize]byte)
			w.out = w.outB[:0]
		}
		n := min(len(p), writeBufferSize-len(w.out))
		w.out = append(w.out, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
}

// flush writes what write has kept back.
func (w *wire) flush() error {
	if w.outB == nil {
		return nil
	}
	err := w.send(w.out)
	w.dropOut()
	return err
}

func (w *wire) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if now := time.Now(); w.writeBy.Before(now.Add(w.writeTimeout)) {
		w.writeBy = now.Add(2 * w.writeTimeout)
		if err := w.conn.SetWriteDeadline(w.writeBy); err != nil {
			return err
		}
	}
	_, err := w.conn.Write(p)
	return err
}

// isTimeout reports whether a read or write ran into its deadline.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// isGone reports whether err says that the peer has left.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF)
}
