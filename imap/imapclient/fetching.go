package imapclient

import (
	"context"
	"fmt"
	"io"
)

// take takes a response if it belongs to this command: a message with more than a server
// tells unasked, or of which no more was asked for.
func (f *fetching) take(r any) bool {
	switch r := r.(type) {
	case *Message:
		asked := r.has&^updates != 0 || f.asked&^updates == 0 || r.Err != nil
		if r.f != f && (r.f != nil || !asked || !f.set.covers(r)) {
			return false
		}
		r.f = f
		f.put(r, r.held)
		return true
	case *vanished:
		if r.earlier {
			f.put(r, 0)
		}
		return r.earlier
	}
	return false
}

// messageOctets is about what a Message takes beside what is counted.
const messageOctets = 500

// put gives a response to the loop, when there is room. The reading goroutine calls it.
func (f *fetching) put(r any, octets int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enqueue(r, octets)
}

func (f *fetching) enqueue(r any, octets int) {
	for f.held > queueOctets && !f.free() {
		f.change.Wait()
	}
	if !f.left {
		f.queue = append(f.queue, r)
		f.held += octets + messageOctets
		f.change.Broadcast()
	}
}

// waiting returns how much is in memory for a loop that has not come to it.
func (f *fetching) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// free reports whether the reading goroutine need not wait. The lock is held.
func (f *fetching) free() bool { return f.aside || f.left || f.over }

// wake has both sides look again.
func (f *fetching) wake() {
	f.mu.Lock()
	f.change.Broadcast()
	f.mu.Unlock()
}

// putAside lets the reading goroutine go on without the loop.
func (f *fetching) putAside() {
	f.mu.Lock()
	f.aside = true
	f.change.Broadcast()
	f.mu.Unlock()
}

// finish says that no more comes.
func (f *fetching) finish(err error) {
	f.mu.Lock()
	f.over, f.err = true, err
	f.change.Broadcast()
	f.mu.Unlock()
}

// leave ends the loop's side.
func (f *fetching) leave() {
	f.mu.Lock()
	f.left, f.queue, f.held = true, nil, 0
	f.file.close()
	f.change.Broadcast()
	f.mu.Unlock()
}

// next gives back the message that the loop had and waits for the next response. It is io.EOF
// when there are no more.
func (f *fetching) next() (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.current; m != nil {
		m.dropped = true
		for _, b := range m.bodies {
			b.stale = true
		}
		f.current = nil
		f.change.Broadcast()
	}
	for len(f.queue) == 0 && !f.over && f.ctx.Err() == nil {
		f.change.Wait()
	}
	if err := context.Cause(f.ctx); err != nil {
		return nil, fmt.Errorf("imapclient: FETCH: %w", err)
	}
	if len(f.queue) == 0 {
		return nil, io.EOF
	}
	r := f.queue[0]
	f.queue[0] = nil
	f.queue = f.queue[1:]
	f.held -= messageOctets
	if m, ok := r.(*Message); ok {
		f.current = m
		f.held -= m.queued
	}
	if f.held <= queueOctets/2 {
		f.change.Broadcast()
	}
	return r, nil
}

// nextBody is Message.Next.
func (f *fetching) nextBody(m *Message) (*Body, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.at > 0 {
		m.bodies[m.at-1].stale = true
		f.change.Broadcast()
	}
	for m.at == len(m.bodies) && !m.whole && !f.over && !f.left && !m.dropped && f.ctx.Err() == nil {
		f.change.Wait()
	}
	switch {
	case f.left || m.dropped:
		return nil, errStale
	case m.at < len(m.bodies):
		m.at++
		return m.bodies[m.at-1], nil
	case m.failed != nil:
		return nil, m.failed
	case m.whole:
		return nil, io.EOF
	case f.ctx.Err() != nil:
		return nil, fmt.Errorf("imapclient: FETCH: %w", context.Cause(f.ctx))
	}
	return nil, f.cutOff()
}

// cutOff is the error of what ends before its end.
func (f *fetching) cutOff() error {
	if f.err != nil {
		return f.err
	}
	return fmt.Errorf("%w: half a message", ErrProtocol)
}

// add gives a body to the loop that has m, or will have.
func (f *fetching) add(m *Message, b *Body) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.stale = b.stale || m.dropped
	m.bodies = append(m.bodies, b)
	f.change.Broadcast()
}

// ended says that m is complete, or as complete as it gets.
func (f *fetching) ended(m *Message, err error) {
	f.mu.Lock()
	m.whole, m.failed = true, err
	f.change.Broadcast()
	f.mu.Unlock()
}

// receive reads the literal of a body. It reports whether it gave the body to the loop: the
// loop takes a large one while it comes, if it can have all else of the message before.
func (f *fetching) receive(m *Message, b *Body, r io.Reader) (given bool) {
	b.f = f
	f.mu.Lock()
	gone, aside := f.left || f.over || m.dropped, f.aside
	f.mu.Unlock()
	small := b.Size <= smallBody && int64(m.held)+b.Size <= queueOctets
	switch {
	case gone:
		_, _ = io.Copy(io.Discard, r)
	case small && (!aside || b.Size <= messageOctets):
		b.data = make([]byte, b.Size)
		if _, err := io.ReadFull(r, b.data); err == nil {
			m.held += len(b.data)
		}
	case aside || f.asked&^m.has != 0:
		f.spool(b, r)
	default:
		f.stream(m, b, r)
		return true
	}
	return false
}

// stream hands a body to the loop block by block.
func (f *fetching) stream(m *Message, b *Body, r io.Reader) {
	b.eof = false
	b.buf = make([]byte, min(b.Size, 32<<10))
	if m.published {
		f.add(m, b)
	} else {
		m.bodies = append(m.bodies, b)
		m.published, m.queued = true, m.held
		f.put(m, m.held)
	}
	for left := b.Size; left > 0; {
		f.mu.Lock()
		for b.r < b.w && !f.free() && !b.stale {
			f.change.Wait()
		}
		gone, aside := f.left || f.over || b.stale, f.aside
		f.mu.Unlock()
		if gone {
			_, _ = io.Copy(io.Discard, r)
			break
		}
		if aside {
			f.spool(b, r)
			return
		}
		// Between r and w there is nothing: the loop does not look at buf.
		n, err := r.Read(b.buf)
		left -= int64(n)
		f.mu.Lock()
		b.r, b.w = 0, n
		f.change.Broadcast()
		f.mu.Unlock()
		if err != nil && left > 0 {
			return // the connection ends, and with it the fetch
		}
	}
	f.mu.Lock()
	b.eof = true
	f.change.Broadcast()
	f.mu.Unlock()
}

// spool puts aside what is left of a body.
func (f *fetching) spool(b *Body, r io.Reader) {
	block := make([]byte, 32<<10)
	f.mu.Lock()
	b.from = f.file.size
	b.to = b.from
	f.mu.Unlock()
	var broken error
	for {
		n, err := r.Read(block)
		if n > 0 && broken == nil {
			_, broken = f.file.Write(block[:n])
		}
		f.mu.Lock()
		if broken == nil {
			b.to += int64(n)
		}
		if b.broken = broken; err == io.EOF {
			b.eof = true
		}
		f.change.Broadcast()
		f.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	f := b.f
	if f == nil { // a quoted string
		if len(b.data) == 0 {
			return 0, io.EOF
		}
		n := copy(p, b.data)
		b.data = b.data[n:]
		return n, nil
	}
	f.mu.Lock()
	for {
		switch {
		case b.stale || f.left:
			f.mu.Unlock()
			return 0, errStale
		case len(p) == 0:
			f.mu.Unlock()
			return 0, nil
		case len(b.data) > 0:
			n := copy(p, b.data)
			b.data = b.data[n:]
			f.mu.Unlock()
			return n, nil
		case b.r < b.w:
			n := copy(p, b.buf[b.r:b.w])
			if b.r += n; b.r == b.w {
				f.change.Broadcast()
			}
			f.mu.Unlock()
			return n, nil
		case b.from < b.to:
			off, n := b.from, min(int64(len(p)), b.to-b.from)
			b.from += n
			f.mu.Unlock()
			return f.file.ReadAt(p[:n], off)
		case b.broken != nil || b.eof || f.over || f.ctx.Err() != nil:
			err := b.broken
			switch {
			case err != nil:
			case b.eof:
				err = io.EOF
			case f.over:
				err = f.cutOff()
			default:
				err = fmt.Errorf("imapclient: FETCH: %w", context.Cause(f.ctx))
			}
			f.mu.Unlock()
			return 0, err
		}
		f.change.Wait()
	}
}
