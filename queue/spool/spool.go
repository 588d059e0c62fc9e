package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// Options of a Store. The zero value, or a nil *Options, has the defaults.
type Options struct {
	// SmallBody is the size up to which a body stands in the log, in octets; larger ones get a
	// file. 0 means 64 KiB; negative gives every message a file.
	SmallBody int

	// SegmentSize is the size of the log's files, in octets. 0 means 16 MiB; it is at least 128 KiB and
	// at most 256 MiB. Two of them are there at least; when there are many they become larger, eight
	// times at most.
	SegmentSize int64

	// Logger learns of damage, and of trouble that no caller can be told about. nil means slog.Default().
	Logger *slog.Logger
}

// A Store is a queue.Store in a directory. It is safe for concurrent use by one process.
type Store struct {
	fs        fileSystem
	lock      io.Closer
	log       *wal
	index     *sched.Index[payload]
	smallBody int
	logger    *slog.Logger
	recovery  Recovery

	alterMu sync.Mutex  // held while messages are rewritten: Alter and reclaim, one at a time
	noRoom  atomic.Bool // the disk was full when the next segment was prepared

	chores    chan struct{} // a hint that there may be something to reclaim
	stop      chan struct{}
	choreDone chan struct{}
	closeOnce sync.Once
	closeErr  error
}

var _ queue.Store = (*Store)(nil)

// payload is what the index keeps of an item: where its message's record and the latest state of its
// own recipients stand.
type payload struct {
	message, state ref
	fromFile       bool // the body is in a file
}

// Open opens the spool in dir, which is created when it does not exist, and recovers what a
// crash left behind; Recovery tells what that was. Errors: queue.ErrBusy when another Store, in this process
// or another, has it open.
func Open(dir string, o *Options) (*Store, error) {
	return open(osFS(dir), o)
}

func open(fsys fileSystem, o *Options) (*Store, error) {
	if o == nil {
		o = &Options{}
	}
	s := &Store{
		fs: fsys, index: sched.New[payload](), smallBody: o.SmallBody, logger: o.Logger,
		chores: make(chan struct{}, 1), stop: make(chan struct{}), choreDone: make(chan struct{}),
	}
	if s.smallBody == 0 {
		s.smallBody = 64 << 10
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	size := o.SegmentSize
	if size == 0 {
		size = 16 << 20
	}
	s.log = &wal{
		fs: fsys, segmentSize: min(max(size, 128<<10), 256<<20),
		token: make(chan struct{}, 1), byNum: make(map[uint32]*segment),
	}
	s.log.begun = s.chore
	s.smallBody = min(s.smallBody, int(s.log.segmentSize/4))
	if err := s.recover(); err != nil {
		return nil, err
	}
	go s.doChores()
	return s, nil
}

// recover takes the directory and brings log and index up.
func (s *Store) recover() (err error) {
	dirs := []string{".", "log", "body"}
	for n := range bodyDirs {
		dirs = append(dirs, bodyDir(n))
	}
	for _, d := range dirs {
		if err := s.fs.Mkdir(d); err != nil {
			return fmt.Errorf("queue/spool: %w", err)
		}
	}
	for _, d := range []string{"body", "."} {
		if err := s.fs.SyncDir(d); err != nil {
			return fmt.Errorf("queue/spool: %w", err)
		}
	}
	if s.lock, err = s.fs.Lock("lock"); err != nil {
		return fmt.Errorf("queue/spool: %w", err)
	}
	defer func() {
		if err != nil {
			s.log.close(err)
			s.lock.Close()
		}
	}()
	f, err := recoverLog(s.log)
	if err != nil {
		return err
	}
	if err := sweepBodies(s.fs, f); err != nil {
		return err
	}
	s.log.nextID = max(s.log.nextID, f.maxID+1)
	s.enter(f)
	s.recovery = f.report
	for _, d := range f.report.Damage {
		s.logger.LogAttrs(context.Background(), slog.LevelError, "queue spool is damaged", slog.String("file", d.File),
			slog.Int64("offset", d.Offset), slog.String("queue_id", string(d.ID)), slog.String("err", d.Reason))
	}
	if err := s.log.ensureSpare(); err != nil && !full(err) {
		return err
	}
	return nil
}

// enter puts the recovered messages into the index.
func (s *Store) enter(f *found) {
	var m *foundMessage
	noted := func(i int) payload {
		p := payload{message: m.at, fromFile: m.fromFile}
		if m.states != nil {
			p.state = m.states[i]
		}
		return p
	}
	s.index.Fill(len(f.messages), func(add func(uint64, sched.Rank, []sched.Part, func(int) payload)) {
		for id, found := range f.messages {
			m = found
			add(id, m.rank, m.parts, noted)
		}
	})
}

// Recovery tells what Open found.
func (s *Store) Recovery() Recovery { return s.recovery }

// Close waits for the commits under way, makes all leases void, and gives up the directory.
// It may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.index.Close(queue.ErrClosed)
		close(s.stop)
		<-s.choreDone
		s.closeErr = errors.Join(s.log.close(queue.ErrClosed), s.lock.Close())
	})
	return s.closeErr
}

// check translates the end of the log into the end of the index, so that those who wait for work
// learn of it.
func (s *Store) check(err error) error {
	if errors.Is(err, queue.ErrFailed) {
		s.index.Close(err)
	}
	return err
}

// Wake implements queue.Store.
func (s *Store) Wake(ctx context.Context, seen queue.Mark, until time.Time) (queue.Mark, error) {
	return s.index.Wake(ctx, seen, until)
}

// Renew implements queue.Store.
func (s *Store) Renew(ctx context.Context, t queue.Token, d time.Duration) error {
	return s.index.Renew(t, d)
}

func parseID(text string) (uint64, bool) { return sched.ParseID(queue.ID(text)) }

// stored is a message's record, and the records of its items' states, put together.
type stored struct {
	messageMeta
	env *queue.Envelope
	rec *record
}

// assemble reads what the views of a message's items point to.
func (s *Store) assemble(id uint64, views ...payload) (*stored, error) {
	r, err := s.log.read(views[0].message, kindMessage, id)
	if err != nil {
		return nil, err
	}
	m := &stored{rec: r}
	if m.messageMeta, err = parseMessageMeta(r.meta); err != nil {
		return nil, fmt.Errorf("queue/spool: message %s: %w", sched.FormatID(id), err)
	}
	if m.env, err = decodeEnvelope(m.envelope); err != nil {
		return nil, fmt.Errorf("queue/spool: message %s: %w", sched.FormatID(id), err)
	}
	for _, v := range views {
		if v.state.seg == 0 {
			continue
		}
		st, err := s.log.read(v.state, kindState, id)
		if err != nil {
			return nil, err
		}
		if err := applyState(st.meta, m.env); err != nil {
			return nil, fmt.Errorf("queue/spool: message %s: %w", sched.FormatID(id), err)
		}
	}
	return m, nil
}

// look reads a message as it is now; nil views when it is not there. A message that moves
// between the look at the index and the reading is looked at again.
func (s *Store) look(id uint64) (*stored, []sched.View[payload], error) {
	for {
		views := s.index.View(id)
		if len(views) == 0 {
			return nil, nil, nil
		}
		at := payloads(views)
		m, err := s.assemble(id, at...)
		if err == nil {
			return m, views, nil
		}
		if err := s.index.Err(); err != nil {
			return nil, nil, err
		}
		if again := s.index.View(id); slices.Equal(payloads(again), at) {
			return nil, nil, fmt.Errorf("queue/spool: message %s can not be read: %w", sched.FormatID(id), err)
		}
	}
}

func payloads(views []sched.View[payload]) []payload {
	at := make([]payload, len(views))
	for i := range views {
		at[i] = views[i].Payload
	}
	return at
}
