package spam

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// File is a Store in one file. Several processes may have the file open, and each sees what
// the others learned. Learning is collected and written at least every half second, so a
// process that is killed loses no more; what was written is synced before the next write.
// After a crash the file is whole up to the last write that was complete. Where there are no
// locks of files (systems other than Unix), one process only may have it open.
type File struct {
	path string
	id   uint64 // of this handle, random: whose frames are whose

	mu      sync.Mutex
	f       *os.File
	base    uint64  // position after the merged frame
	ends    []int64 // ends[i]: offset at which the frames up to position base+i end
	merged  int64   // size of the file when it was merged
	seen    map[seenKey]seenMark
	pending map[string]*pendingModel
	marks   map[seenKey]seenMark // pending
	weight  int                  // of what is pending, in bytes about
	timer   *time.Timer
	err     error // of the last write by the timer
	closed  bool
}

type seenKey [16]byte

// A seenMark is what Learn did with a message. Label Unlabelled removes it.
type seenMark struct {
	label Label
	until int64 // Unix seconds; 0 is never
}

type pendingModel struct {
	cells cellSums
	slots map[uint32][]byte
}

const (
	fileDelay    = 500 * time.Millisecond
	fileMaxBatch = 16 << 20 // bytes pending that are written at once
	fileSlack    = 16 << 20 // bytes of frames after which a small file is merged
)

var (
	_ Store  = (*File)(nil)
	_ Keeper = (*File)(nil)
	_ Syncer = (*File)(nil)

	_ Snapshotter = (*File)(nil)
)

// OpenFile opens the store at path, or makes it and its folder. An existing file that is no
// store, or one of another version, is an error and stays as it is.
func OpenFile(path string) (*File, error) {
	if err := atomicfile.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("spam: open store: %w", err)
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("spam: open store: %w", err)
	}
	s := &File{path: path, id: binary.LittleEndian.Uint64(id[:]), pending: map[string]*pendingModel{}, marks: map[seenKey]seenMark{}}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("spam: open store: %w", err)
	}
	if err := s.reopen(); err != nil {
		return nil, fmt.Errorf("spam: open store: %w", err)
	}
	return s, nil
}

// create makes an empty store where there is no file. A link makes it whole at once, and
// leaves a store alone that another process made meanwhile.
func (s *File) create() error {
	if _, err := os.Stat(s.path); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	first := fmt.Sprintf("%s.new%d", s.path, s.id)
	defer os.Remove(first)
	if err := atomicfile.Write(first, appendFrame(fileHeader(1), nil), 0o600); err != nil {
		return err
	}
	if err := os.Link(first, s.path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(s.path))
}

// reopen opens the file that has the path now and reads it from the start.
func (s *File) reopen() error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	base, start, err := readFileHeader(f)
	if err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", s.path, err)
	}
	if s.f != nil {
		s.f.Close()
	}
	s.f, s.base, s.seen, s.ends = f, base, map[seenKey]seenMark{}, nil
	var end int64
	payload, end, err := readFrame(f, start)
	if err != nil {
		return fmt.Errorf("%s: the merged part: %w", s.path, err)
	}
	s.merged = end
	s.ends = append(s.ends, end)
	s.note(payload)
	return s.catchUp()
}

// note takes the marks from a frame.
func (s *File) note(payload []byte) {
	for r := range records(payload) {
		if r.kind == recordSeen {
			if r.mark.label == Unlabelled {
				delete(s.seen, r.key)
			} else {
				s.seen[r.key] = r.mark
			}
		}
	}
}

// catchUp reads frames that were written since. A frame that is not whole is either being
// written or was left by a crash; the next writer, who holds the lock, knows.
func (s *File) catchUp() error {
	if now, err := os.Stat(s.path); err != nil {
		return err
	} else if mine, err := s.f.Stat(); err != nil {
		return err
	} else if !os.SameFile(now, mine) {
		return s.reopen()
	} else if mine.Size() == s.end() {
		return nil
	}
	for {
		payload, end, err := readFrame(s.f, s.end())
		if errors.Is(err, errNoFrame) {
			return nil
		}
		if err != nil {
			return err
		}
		s.note(payload)
		s.ends = append(s.ends, end)
	}
}

func (s *File) end() int64 { return s.ends[len(s.ends)-1] }

// lock takes the lock between processes on the file that has the path now.
func (s *File) lock() error {
	for {
		if err := lockFile(s.f); err != nil {
			return err
		}
		before := s.f
		if err := s.catchUp(); err != nil {
			unlockFile(s.f)
			return err
		}
		if s.f == before {
			return nil
		}
		// Another process merged the file while we waited; closing it freed the lock.
	}
}

// Load implements [Store]. It reads the file.
func (s *File) Load(ctx context.Context, model string, since uint64) (iter.Seq2[Cell, error], uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, 0, err
	}
	var err error
	if since == 0 {
		err = s.flush()
	} else {
		err = s.catchUp()
	}
	if err != nil {
		return nil, 0, s.wrap("load", err)
	}
	end := s.base + uint64(len(s.ends)) - 1
	if since != 0 && (since < s.base || since > end) {
		return nil, 0, ErrTooOld
	}
	var sums cellSums
	err = s.each(ctx, since, func(payload []byte) {
		if since != 0 && frameWriter(payload) == s.id {
			return
		}
		for r := range records(payload) {
			if r.kind == recordCells && r.model == model {
				for c := range r.cells() {
					sums.add(c)
				}
			}
		}
	})
	if err != nil {
		return nil, 0, s.wrap("load", err)
	}
	list := sums.sorted()
	sums.reset()
	return cellSeq(list), end, nil
}

// each calls f with the frames after a position, in order; 0 begins with the merged one.
func (s *File) each(ctx context.Context, since uint64, f func(payload []byte)) error {
	i := 0
	if since == 0 {
		_, start, err := readFileHeader(s.f)
		if err != nil {
			return err
		}
		payload, _, err := readFrame(s.f, start)
		if err != nil {
			return err
		}
		f(payload)
	} else {
		i = int(since - s.base)
	}
	for ; i+1 < len(s.ends); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		payload, _, err := readFrame(s.f, s.ends[i])
		if err != nil {
			return err
		}
		f(payload)
	}
	return nil
}

func (s *File) usable() error {
	if s.closed {
		return fmt.Errorf("spam: store %s: %w", s.path, os.ErrClosed)
	}
	return nil
}

func (s *File) wrap(what string, err error) error {
	return fmt.Errorf("spam: store %s: %s: %w", s.path, what, err)
}

func (s *File) pendingOf(model string) *pendingModel {
	p := s.pending[model]
	if p == nil {
		p = &pendingModel{slots: map[uint32][]byte{}}
		s.pending[model] = p
	}
	return p
}

// Add implements [Store].
func (s *File) Add(_ context.Context, model string, deltas []Cell) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	p := s.pendingOf(model)
	before := p.cells.len()
	p.cells.add(deltas...)
	return s.written(24 * max(p.cells.len()-before, 0))
}

// Keep implements [Keeper].
func (s *File) Keep(_ context.Context, model string, slot uint32, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.pendingOf(model).slots[slot] = slices.Clone(data)
	return s.written(len(data) + 16)
}

// SetSeen implements [Store]. A message that two processes learn within the same half second
// may count twice.
func (s *File) SetSeen(_ context.Context, model, id string, l Label, ttl time.Duration) (Label, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return Unlabelled, err
	}
	if err := s.catchUp(); err != nil {
		return Unlabelled, s.wrap("look up", err)
	}
	sum := sha256.Sum256([]byte(model + "\x00" + id))
	key := seenKey(sum[:16])
	old, ok := s.marks[key]
	if !ok {
		old = s.seen[key]
	}
	if old.until != 0 && old.until <= time.Now().Unix() {
		old.label = Unlabelled
	}
	if l == old.label && l == Unlabelled {
		return l, nil
	}
	mark := seenMark{label: l}
	if ttl > 0 {
		mark.until = time.Now().Add(ttl).Unix()
	}
	s.marks[key] = mark
	return old.label, s.written(32)
}

// written makes sure that what is pending is written soon.
func (s *File) written(bytes int) error {
	s.weight += bytes
	if s.weight > fileMaxBatch {
		return s.flush()
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(fileDelay, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.timer = nil
			if !s.closed {
				s.err = s.flush()
			}
		})
	}
	err := s.err
	s.err = nil
	return err
}

// Sync implements [Syncer]: what was added is in the file, on the disk, and seen by others.
func (s *File) Sync(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	return s.flush()
}

// Close writes what is pending and closes the file.
func (s *File) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	err := s.flush()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	return errors.Join(err, s.f.Close())
}

// flush writes what is pending as one frame. If it fails, all is still pending and the file
// is as it was.
func (s *File) flush() error {
	if len(s.pending) == 0 && len(s.marks) == 0 {
		return s.catchUp()
	}
	if err := s.lock(); err != nil {
		return s.wrap("lock", err)
	}
	defer func() { unlockFile(s.f) }()
	frame := appendFrame(nil, s.encodePending())
	end := s.end()
	// What stands after the last whole frame was left by a crash: nobody writes now but us.
	err := s.f.Truncate(end)
	if err == nil {
		_, err = s.f.WriteAt(frame, end)
	}
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		_ = s.f.Truncate(end)
		return s.wrap("write", err)
	}
	s.ends = append(s.ends, end+int64(len(frame)))
	maps.Copy(s.seen, s.marks)
	maps.DeleteFunc(s.seen, func(_ seenKey, m seenMark) bool { return m.label == Unlabelled })
	s.forgetPending()
	if s.end()-s.merged > max(fileSlack, 2*s.merged) {
		if err := s.merge(); err != nil {
			return s.wrap("merge", err)
		}
	}
	return nil
}

// merge replaces the file by one that holds the sum of its frames. The caller has the lock.
func (s *File) merge() error {
	payload, err := s.sum()
	if err != nil {
		return err
	}
	return s.replace(s.base+uint64(len(s.ends))-1, payload)
}

// sum returns all frames as one payload.
func (s *File) sum() ([]byte, error) {
	all := map[string]*pendingModel{}
	err := s.each(context.Background(), 0, func(payload []byte) {
		for r := range records(payload) {
			if r.kind == recordSeen {
				continue
			}
			p := all[r.model]
			if p == nil {
				p = &pendingModel{slots: map[uint32][]byte{}}
				all[r.model] = p
			}
			switch r.kind {
			case recordCells:
				for c := range r.cells() {
					p.cells.add(c)
				}
			case recordSlot:
				if len(r.data) == 0 {
					delete(p.slots, r.slot)
				} else {
					p.slots[r.slot] = slices.Clone(r.data)
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	live := maps.Clone(s.seen)
	maps.DeleteFunc(live, func(_ seenKey, m seenMark) bool { return m.until != 0 && m.until <= now })
	payload := encodeRecords(0, all, live)
	for _, p := range all {
		p.cells.reset()
	}
	return payload, nil
}

// replace makes a payload the whole of the store, at a position. The caller has the lock.
func (s *File) replace(position uint64, payload []byte) error {
	if err := atomicfile.Write(s.path, appendFrame(fileHeader(position), payload), 0o600); err != nil {
		return err
	}
	return s.reopen() // closes the old file, and frees its lock
}

// Kept implements [Keeper]. It reads the file.
func (s *File) Kept(ctx context.Context, model string) (iter.Seq2[uint32, []byte], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	if err := s.flush(); err != nil {
		return nil, err
	}
	slots := map[uint32][]byte{}
	err := s.each(ctx, 0, func(payload []byte) {
		for r := range records(payload) {
			if r.kind == recordSlot && r.model == model {
				if len(r.data) == 0 {
					delete(slots, r.slot)
				} else {
					slots[r.slot] = slices.Clone(r.data)
				}
			}
		}
	})
	if err != nil {
		return nil, s.wrap("load", err)
	}
	return maps.All(slots), nil
}

func (s *File) forgetPending() {
	for _, p := range s.pending {
		p.cells.reset()
	}
	clear(s.pending)
	clear(s.marks)
	s.weight = 0
}

func (s *File) encodePending() []byte { return encodeRecords(s.id, s.pending, s.marks) }
