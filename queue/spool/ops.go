package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/envcodec"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

func decodeEnvelope(b []byte) (*queue.Envelope, error) { return envcodec.Decode(b) }

// entering is a message on its way in.
type entering struct {
	id       uint64
	env      *queue.Envelope
	parts    []sched.Part
	fromFile bool
}

// maxInline bounds the octets of bodies that one transaction carries; what comes after goes to files.
const maxInline = 512 << 10

// stage reads and stores the bodies of msgs and adds their records to t. When it fails
// nothing is left behind.
func (s *Store) stage(ctx context.Context, t *txn, msgs []queue.Message) (staged []entering, err error) {
	defer func() {
		if err != nil {
			s.unstage(staged)
		}
	}()
	for i := range msgs {
		if err := ctx.Err(); err != nil {
			return staged, err
		}
		env, err := sched.Prepare(&msgs[i].Envelope, time.Now())
		if err != nil {
			return staged, err
		}
		e := entering{id: s.log.newID(), env: env, parts: sched.Parts(env)}
		limit := s.smallBody
		if len(t.buf) > maxInline {
			limit = -1
		}
		buf := bodyPool.Get().(*[]byte)
		body, size, err := s.storeBody(&e, msgs[i].Body, limit, (*buf)[:0])
		if err == nil {
			staged = append(staged, e)
			t.add(kindMessage, e.id, appendMessageMeta(nil, size, e.fromFile, e.parts, env), body)
		}
		if cap(body) > cap(*buf) && cap(body) <= maxInline {
			*buf = body
		}
		bodyPool.Put(buf)
		if err != nil {
			return staged, err
		}
	}
	return staged, nil
}

// bodyPool has the buffers that bodies are read into.
var bodyPool = sync.Pool{New: func() any {
	buf := make([]byte, 8<<10)
	return &buf
}}

// storeBody reads a body of up to limit octets into head, which may grow; a longer one goes to a file.
func (s *Store) storeBody(e *entering, r io.Reader, limit int, head []byte) (inline []byte, size int64, err error) {
	for len(head) <= limit {
		if len(head) == cap(head) {
			head = append(head, 0)[:len(head)]
		}
		n, err := r.Read(head[len(head):min(cap(head), limit+1)])
		head = head[:len(head)+n]
		if err == io.EOF {
			return head, int64(len(head)), nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("queue/spool: read message: %w", err)
		}
	}
	size, err = writeBody(s.fs, e.id, head, r)
	e.fromFile = err == nil
	return nil, size, err
}

func (s *Store) unstage(staged []entering) {
	for _, e := range staged {
		if e.fromFile {
			s.removeBody(e.id)
		}
	}
}

// removeBody removes a body that is not needed any more. What can not be removed now is removed by
// the next Open.
func (s *Store) removeBody(id uint64) {
	if err := s.fs.Remove(bodyName(id)); err != nil {
		s.logger.LogAttrs(context.Background(), slog.LevelWarn, "body not removed",
			slog.String("queue_id", string(sched.FormatID(id))), slog.Any("err", err))
	}
}

// admit enters committed messages into the index; at are the places of their records.
func (s *Store) admit(staged []entering, at []ref) ([]queue.ID, error) {
	ids := make([]queue.ID, 0, len(staged))
	for i, e := range staged {
		if err := s.index.Add(e.id, sched.EnvelopeRank(e.env), e.parts, func(int) payload {
			return payload{message: at[i], fromFile: e.fromFile}
		}); err != nil {
			return nil, err
		}
		ids = append(ids, sched.FormatID(e.id))
	}
	return ids, nil
}

// Enqueue implements queue.Store. ENOSPC is wrapped when the disk is full; nothing is lost by it.
func (s *Store) Enqueue(ctx context.Context, msgs ...queue.Message) ([]queue.ID, error) {
	if err := s.index.Err(); err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, nil
	}
	if s.noRoom.Load() {
		// What room the log has is left to Settle: a delivery that can not be recorded
		// would be made again.
		s.chore()
		return nil, fmt.Errorf("queue/spool: no room for another segment: %w", syscall.ENOSPC)
	}
	t := newTxn()
	defer t.free()
	staged, err := s.stage(ctx, t, msgs)
	if err != nil {
		return nil, err
	}
	if err := s.log.commit(t); err != nil {
		s.unstage(staged)
		return nil, s.check(err)
	}
	return s.admit(staged, t.at)
}

// Lease implements queue.Store.
func (s *Store) Lease(ctx context.Context, w queue.Want) ([]queue.Lease, error) {
	grants, now, err := s.index.Lease(w)
	if err != nil {
		return nil, err
	}
	leases := make([]queue.Lease, 0, len(grants))
	for _, g := range grants {
		m, err := s.assemble(g.ID, g.Payload)
		if err != nil {
			if err := s.index.Err(); err != nil {
				return nil, err
			}
			// The lease is left to end by itself: this is tried again, but not at once.
			s.logger.LogAttrs(ctx, slog.LevelError, "queued message can not be read",
				slog.String("queue_id", string(g.Token.ID)), slog.Any("err", err))
			continue
		}
		leases = append(leases, queue.Lease{
			Token: g.Token, Envelope: m.env, Size: m.size, Due: sched.Due(m.env, g.Token.Route, now),
			Now: now, Until: g.Until, RouteDown: g.RouteDown, Expire: g.Expire,
		})
	}
	return leases, nil
}

// Settle implements queue.Store.
func (s *Store) Settle(ctx context.Context, token queue.Token, set queue.Settlement) ([]queue.ID, error) {
	it, undo, err := s.index.Begin(token)
	if err != nil {
		return nil, err
	}
	old := it.Payload
	m, err := s.assemble(it.ID(), old)
	if err != nil {
		s.index.Abort(it, undo)
		return nil, err
	}
	t := newTxn()
	defer t.free()
	reports, err := s.stage(ctx, t, set.Reports)
	if err != nil {
		s.index.Abort(it, undo)
		return nil, err
	}
	sched.Settle(m.env, token.Route, &set)
	due, done := sched.Summary(m.env, token.Route)
	res := sched.Result{Due: due, Alarm: set.Alarm, Done: done}
	gone := done && len(m.parts) == 1
	if gone {
		t.add(kindGone, it.ID(), nil, nil)
	} else {
		t.add(kindState, it.ID(), appendStateMeta(nil, token.Route, res, m.env), nil)
	}
	if err := s.log.commit(t); err != nil {
		s.unstage(reports)
		s.index.Abort(it, undo)
		return nil, s.check(err)
	}
	ids, err := s.admit(reports, t.at)
	now := old
	if !gone {
		now.state = t.at[len(t.at)-1]
		s.log.unneeded(old.state)
	}
	s.forget(it.ID(), s.index.Finish(it, res, now))
	return ids, err
}

// forget lets go of the records and the body of a message that has left the index, if it has.
func (s *Store) forget(id uint64, gone []payload) {
	if len(gone) == 0 {
		return
	}
	refs := []ref{gone[0].message}
	for _, p := range gone {
		refs = append(refs, p.state)
	}
	s.log.unneeded(refs...)
	if gone[0].fromFile {
		s.removeBody(id)
	}
}

// Open implements queue.Store.
func (s *Store) Open(ctx context.Context, id queue.ID) (io.ReadSeekCloser, error) {
	n, _ := sched.ParseID(id)
	for {
		if err := s.index.Err(); err != nil {
			return nil, err
		}
		views := s.index.View(n)
		if len(views) == 0 {
			return nil, fmt.Errorf("queue/spool: open %s: %w", id, queue.ErrNotFound)
		}
		at := views[0].Payload.message
		body, err := s.openBody(n, at)
		if err == nil {
			return body, nil
		}
		if again := s.index.View(n); len(again) > 0 && again[0].Payload.message == at {
			return nil, fmt.Errorf("queue/spool: body of %s can not be read: %w", id, err)
		}
	}
}

// openBody opens the body of the message whose record stands at p. A small one is read whole:
// its place in the log may be used again while the caller reads.
func (s *Store) openBody(id uint64, p ref) (io.ReadSeekCloser, error) {
	r, err := s.log.read(p, kindMessage, id)
	if err != nil {
		return nil, err
	}
	m, err := parseMessageMeta(r.meta)
	if err != nil {
		return nil, err
	}
	if m.fromFile {
		return s.fs.Open(bodyName(id))
	}
	b, err := s.log.body(p, r)
	if err != nil {
		return nil, err
	}
	return inMemory{bytes.NewReader(b)}, nil
}

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// List implements queue.Store. A message that can not be read is yielded as an error, and the
// iteration goes on.
func (s *Store) List(ctx context.Context, f queue.Filter) iter.Seq2[*queue.Entry, error] {
	return func(yield func(*queue.Entry, error) bool) {
		if err := s.index.Err(); err != nil {
			yield(nil, err)
			return
		}
		n := 0
		for _, id := range s.index.IDs(&f) {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			m, views, err := s.look(id)
			if err != nil {
				if !yield(nil, err) || errors.Is(err, queue.ErrClosed) {
					return
				}
				continue
			}
			if views == nil || !sched.Match(m.env, &f) {
				continue
			}
			if !yield(sched.Entry(id, m.env, m.size, views), nil) {
				return
			}
			if n++; n == f.Limit {
				return
			}
		}
	}
}
