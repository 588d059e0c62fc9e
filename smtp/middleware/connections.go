package middleware

import (
	"context"
	"sync"

	"github.com/mailblocks/mailblocks/smtp"
)

// MaxSessions limits the sessions that one identity has open at a time, each from its first MAIL on:
// more are sent away (421 4.7.0). Limits by address are Server.MaxConnectionsPerAddress, and
// Limits.Connections of RateLimit.
func MaxSessions(n int) smtp.Middleware {
	open := &sessions{n: n, count: make(map[string]int)}
	return func(next smtp.Handler) smtp.Handler { return &maxSessions{smtp.Pass{Handler: next}, open} }
}

type sessions struct {
	n     int
	mu    sync.Mutex
	count map[string]int
}

// add counts a session in, unless there are enough.
func (o *sessions) add(identity string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[identity] >= o.n {
		return false
	}
	o.count[identity]++
	return true
}

func (o *sessions) remove(identity string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[identity]--; o.count[identity] <= 0 {
		delete(o.count, identity)
	}
}

type maxSessions struct {
	smtp.Pass
	open *sessions
}

func (h *maxSessions) Mail(ctx context.Context, tx *smtp.Transaction) error {
	s := tx.Session
	counted, _ := s.Value(h).(string)
	if s.Identity != counted {
		if counted != "" {
			h.open.remove(counted)
			s.Set(h, "")
		}
		if s.Identity != "" {
			if !h.open.add(s.Identity) {
				return &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "too many sessions of yours"}
			}
			s.Set(h, s.Identity)
		}
	}
	return h.Pass.Mail(ctx, tx)
}

func (h *maxSessions) Close(ctx context.Context, s *smtp.Session, cause error) {
	if counted, _ := s.Value(h).(string); counted != "" {
		h.open.remove(counted)
		s.Set(h, "")
	}
	h.Pass.Close(ctx, s, cause)
}
