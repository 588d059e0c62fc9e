package relay

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

// A session is a connection that is up.
type session struct {
	c      *smtp.Client
	key    poolKey
	used   int  // messages sent
	reused bool // it has been idle

	idle *time.Timer // closes it; set while it is in the pool
}

// poolKey says which connections are alike: same host, same security, same credentials, same source.
type poolKey struct {
	addr, host string
	level      Level
	config     *tls.Config
	key        string // of the Security, then config is nil
	smart      *Smarthost
	src        Source
}

// pool holds the idle connections. Each has a timer that takes it out and closes it.
type pool struct {
	mu     sync.Mutex
	closed bool
	idle   map[poolKey][]*session
}

// get takes the connection used last, or nil.
func (p *pool) get(key poolKey) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[key]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	p.remove(s)
	s.idle.Stop()
	s.reused = true
	return s
}

// remove, with mu held, takes s out; false when it is not in.
func (p *pool) remove(s *session) bool {
	list := p.idle[s.key]
	for i := range list {
		if list[i] == s {
			p.idle[s.key] = append(list[:i], list[i+1:]...)
			if len(list) == 1 {
				delete(p.idle, s.key)
			}
			return true
		}
	}
	return false
}

// put keeps s for a while; false when the pool is closed.
func (p *pool) put(s *session, wait time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if p.idle == nil {
		p.idle = make(map[poolKey][]*session)
	}
	p.idle[s.key] = append(p.idle[s.key], s)
	s.idle = time.AfterFunc(wait, func() {
		p.mu.Lock()
		mine := p.remove(s)
		p.mu.Unlock()
		if mine {
			s.end()
		}
	})
	return true
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*session
	for _, list := range p.idle {
		all = append(all, list...)
	}
	p.idle = nil
	p.mu.Unlock()
	for _, s := range all {
		s.idle.Stop()
		s.end()
	}
}

// end says goodbye, within reason.
func (s *session) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s.c.Quit(ctx)
	s.c.Close()
}

// release gives a session back after a message. A broken one has been closed by the client.
func (t *Transport) release(s *session, err error) {
	s.used++
	wait, most := t.IdleTimeout, t.MessagesPerConnection
	if wait == 0 {
		wait = 5 * time.Second
	}
	if most == 0 {
		most = 100
	}
	switch {
	case err != nil:
		s.c.Close()
	case wait < 0 || s.used >= most || !t.pool.put(s, wait):
		s.end()
	}
}
