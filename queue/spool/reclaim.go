package spool

import (
	"context"
	"log/slog"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// chore asks for doChores to have a look. It never blocks.
func (s *Store) chore() {
	select {
	case s.chores <- struct{}{}:
	default:
	}
}

// doChores reclaims old segments and prepares the next one, until the store is closed.
func (s *Store) doChores() {
	defer close(s.choreDone)
	for {
		select {
		case <-s.stop:
			return
		case <-s.chores:
		}
		s.reclaim()
		err := s.log.ensureSpare()
		if full(err) != s.noRoom.Swap(full(err)) {
			s.logger.LogAttrs(context.Background(), slog.LevelError, "queue spool's disk is full or has room again", slog.Bool("full", full(err)))
		}
		if err != nil && !full(err) {
			s.logger.LogAttrs(context.Background(), slog.LevelError, "queue spool can not prepare a segment", slog.Any("err", err))
		}
	}
}

// reclaim drops the oldest segments that hold nothing live, and moves what little is live in an
// old one to the end of the log: when that is less than a quarter of it, or when the log
// has grown to more than twice what is live.
func (s *Store) reclaim() {
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		seg, live, sparse := s.log.oldest()
		if seg == nil {
			return
		}
		if live > 0 {
			if !sparse || s.move(seg) == 0 {
				return // what can not be moved now, being leased, is met again later
			}
			continue
		}
		ids, err := s.log.survivors(seg, s.index)
		if err == nil && len(ids) == 0 {
			err = s.log.drop()
		} else if err == nil {
			s.logger.LogAttrs(context.Background(), slog.LevelError, "queue spool counts wrongly, segment kept",
				slog.String("file", segmentName(seg.number)), slog.Int("messages", len(ids)))
			return
		}
		if err != nil {
			s.check(err)
			s.logger.LogAttrs(context.Background(), slog.LevelError, "queue spool can not reclaim a segment", slog.Any("err", err))
			return
		}
	}
}

// oldest returns the oldest segment unless it is the one being written.
func (w *wal) oldest() (seg *segment, live int64, sparse bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil || len(w.order) < 2 {
		return nil, 0, false
	}
	var size, all int64
	for _, g := range w.order {
		size += g.size
		all += g.live
	}
	seg = w.order[0]
	return seg, seg.live, seg.live < seg.size/4 || size > 2*all+4*w.segmentSize
}

// survivors returns the messages that the index has in a segment, or a state of them.
func (w *wal) survivors(seg *segment, index *sched.Index[payload]) ([]uint64, error) {
	var ids []uint64
	seen := make(map[uint64]bool)
	head := make([]byte, recordHeader)
	for off := int64(segmentHeader); off+recordHeader <= seg.size; {
		if _, err := seg.f.ReadAt(head, off); err != nil {
			return nil, err
		}
		h, ok := parseHeader(head)
		if !ok {
			break
		}
		off += h.size()
		if h.kind != kindMessage && h.kind != kindState || seen[h.id] {
			continue
		}
		seen[h.id] = true
		for _, v := range index.View(h.id) {
			if v.Payload.message.seg == seg.number || v.Payload.state.seg == seg.number {
				ids = append(ids, h.id)
				break
			}
		}
	}
	return ids, nil
}

// moveBatch is how many messages are moved with one commit.
const moveBatch = 64

// move writes the live messages of a segment anew, and returns how many it moved.
func (s *Store) move(seg *segment) (moved int) {
	s.alterMu.Lock()
	defer s.alterMu.Unlock()
	ids, err := s.log.survivors(seg, s.index)
	var batch []rewriting
	flush := func() {
		n, e := s.rewrite(batch)
		moved += n
		err = errorsFirst(err, e)
		batch = nil
	}
	for _, id := range ids {
		views := s.index.PinWhole(id)
		if views == nil {
			continue
		}
		batch = append(batch, rewriting{id: id, views: views, change: func(m *stored) []sched.Part {
			return sched.Rebuild(m.env, views)
		}})
		if len(batch) == moveBatch {
			flush()
		}
	}
	if len(batch) > 0 {
		flush()
	}
	if err != nil && s.index.Err() != queue.ErrClosed {
		s.logger.LogAttrs(context.Background(), slog.LevelError, "queue spool can not move messages",
			slog.String("file", segmentName(seg.number)), slog.Any("err", err))
	}
	return moved
}
