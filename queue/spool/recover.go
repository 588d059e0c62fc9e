package spool

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/envcodec"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// Recovery tells what Open found.
type Recovery struct {
	Segments int
	Messages int           // queued
	Torn     int64         // octets of writes that a crash cut short; nobody was told they were done
	Orphans  int           // body files without a message, removed
	Damage   []Damage      // what can not be read though it was on stable storage once
	Took     time.Duration // to read the log
}

// Damage is a part of the spool that was acknowledged and is not readable any more: the disk, or
// somebody, has changed it.
type Damage struct {
	File   string   // relative to the spool
	Offset int64    // in the file
	ID     queue.ID // "" when not even that is known
	Reason string
}

// found is the state that replaying the log builds.
type found struct {
	messages map[uint64]*foundMessage
	maxID    uint64
	report   Recovery
}

type foundMessage struct {
	at       ref
	fromFile bool
	rank     sched.Rank
	parts    []sched.Part
	one      [1]sched.Part // where parts stand, of most messages
	states   []ref         // beside parts; nil when none has one
}

// recoverLog reads all segments, oldest first, and opens them into w.
func recoverLog(w *wal) (*found, error) {
	began := time.Now()
	f := &found{}
	numbers, err := f.list(w.fs)
	if err != nil {
		return nil, err
	}
	f.messages = make(map[uint64]*foundMessage, len(numbers)*int(w.segmentSize/8192)) // a guess
	if err := f.replay(w, numbers); err != nil {
		return nil, err
	}
	f.report.Segments = len(w.order)
	w.nextID = max(f.maxID+1, sched.FirstID(time.Now()))
	for id, m := range f.messages {
		if !slices.ContainsFunc(m.parts, func(p sched.Part) bool { return !p.Done }) {
			delete(f.messages, id)
			continue
		}
		w.byNum[m.at.seg].live += int64(m.at.size)
		for _, r := range m.states {
			if r.seg != 0 {
				w.byNum[r.seg].live += int64(r.size)
			}
		}
	}
	f.report.Messages = len(f.messages)
	f.report.Took = time.Since(began)
	return f, nil
}

// list finds the segments. Whatever else is in the folder is left alone, but the spare, of whose
// preparation nothing is known, is made anew.
func (f *found) list(fsys fileSystem) ([]uint32, error) {
	entries, err := fsys.ReadDir("log")
	if err != nil {
		return nil, fmt.Errorf("queue/spool: %w", err)
	}
	var numbers []uint32
	for _, e := range entries {
		if "log/"+e.Name() == spareName {
			if err := fsys.Remove(spareName); err != nil {
				return nil, fmt.Errorf("queue/spool: %w", err)
			}
		}
		hex, isSegment := strings.CutSuffix(e.Name(), ".seg")
		n, err := strconv.ParseUint(hex, 16, 32)
		if isSegment && err == nil && n > 0 {
			numbers = append(numbers, uint32(n))
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// replay reads the segments, a few at a time, and does in their order what their records say.
func (f *found) replay(w *wal, numbers []uint32) error {
	ahead := runtime.GOMAXPROCS(0) + 1
	read := make(chan chan *scan, ahead) // in order
	stop := make(chan struct{})
	go func() {
		defer close(read)
		for i, number := range numbers {
			one := make(chan *scan, 1)
			select {
			case <-stop:
				return
			case read <- one:
			}
			go func() { one <- scanSegment(w.fs, number, i == len(numbers)-1) }()
		}
	}()
	var failed error
	for one := range read {
		s := <-one
		if failed == nil && s.err != nil {
			failed = s.err
			close(stop)
		}
		if failed == nil {
			f.take(w, s)
		} else if s.seg != nil {
			s.seg.f.Close()
		}
	}
	return failed
}

// take does what the records of the next segment say.
func (f *found) take(w *wal, s *scan) {
	f.report.Torn += s.torn
	f.report.Damage = append(f.report.Damage, s.damages...)
	f.maxID = max(f.maxID, s.next)
	for i := range s.replays {
		f.apply(&s.replays[i])
	}
	if s.seg != nil {
		w.byNum[s.seg.number] = s.seg
		w.order = append(w.order, s.seg)
	}
}

// scanSegment reads one segment. The last one may end in a torn write, which is cleared so
// that it is not met again, or never have been synced at all; then it is removed and there is no seg.
func scanSegment(fsys fileSystem, number uint32, last bool) *scan {
	s := &scan{name: segmentName(number), key: segmentKey{number: number}, checkBodies: last}
	f, err := fsys.Open(s.name)
	if err != nil {
		s.err = fmt.Errorf("queue/spool: %w", err)
		return s
	}
	keep, err := s.file(f, last)
	if err == nil && !keep {
		if err = fsys.Remove(s.name); err == nil {
			err = fsys.SyncDir("log")
		}
	}
	if err != nil {
		s.err = fmt.Errorf("queue/spool: read %s: %w", s.name, err)
	}
	if err != nil || !keep {
		s.seg = nil
		f.Close()
	}
	return s
}

// file reads the segment's file; false when it is not to be kept.
func (s *scan) file(f file, last bool) (keep bool, err error) {
	if s.size, err = f.Size(); err != nil {
		return false, err
	}
	s.r, s.at = bufio.NewReaderSize(io.NewSectionReader(f, 0, s.size), 256<<10), f
	s.replays = make([]replay, 0, s.size/4096) // about as many as there are of usual mail
	end, err := s.run()
	if err != nil || end == 0 && last {
		return false, err
	}
	if end == 0 {
		s.damage(0, 0, "header of the segment")
	}
	if last && end < s.size {
		if err := clearTail(f, end, s.size); err != nil {
			return false, fmt.Errorf("clear the end: %w", err)
		}
	}
	s.seg = &segment{segmentKey: s.key, f: f, size: s.size, used: s.size, sealed: true}
	return true, nil
}

// clearTail overwrites what follows the last transaction.
func clearTail(f file, from, size int64) error {
	zeros := make([]byte, 256<<10)
	buf := make([]byte, len(zeros))
	dirty := false
	for from < size {
		n := min(int64(len(zeros)), size-from)
		if _, err := f.ReadAt(buf[:n], from); err != nil && err != io.EOF {
			return err
		}
		if string(buf[:n]) != string(zeros[:n]) {
			if _, err := f.WriteAt(zeros[:n], from); err != nil {
				return err
			}
			dirty = true
		}
		from += n
	}
	if !dirty {
		return nil
	}
	return f.Sync()
}

// scan reads the records of one segment. It knows nothing of others, so that several can be read at a time.
type scan struct {
	name        string
	key         segmentKey
	size        int64
	checkBodies bool

	at     io.ReaderAt
	r      *bufio.Reader // stands at off
	off    int64
	began  int64 // where the transaction begins that has not ended yet
	whole  int   // how many of replays are of transactions that have ended
	buffer []byte

	// What came of it.
	replays []replay
	next    uint64 // what the segment's header says of the next ID
	torn    int64
	damages []Damage
	seg     *segment
	err     error
}

// replay is a record to be applied in its turn.
type replay struct {
	kind  kind
	id    uint64
	at    ref
	msg   *foundMessage // of kindMessage
	route string        // of the others
	res   sched.Result
	flags sched.Part
}

// run replays the segment and returns where its last complete transaction ends, 0 for a file
// that does not begin as a segment.
func (s *scan) run() (end int64, err error) {
	var start [segmentHeader]byte
	if _, err := io.ReadFull(s.r, start[:]); err != nil {
		return 0, unlessShort(err)
	}
	key, next, ok := parseSegmentStart(start[:], s.key.number)
	if !ok {
		return 0, nil
	}
	s.key, s.next = key, next
	s.began = segmentHeader
	s.seek(segmentHeader)
	for {
		h, meta, reason, err := s.record()
		if err != nil {
			return 0, err
		}
		if reason != "" {
			// Is this where the writing ended, or is it damage in what was written?
			at, durable, err := s.resync(s.off+recordAlign, s.off)
			if err != nil {
				return 0, err
			}
			if at < 0 || durable <= s.off {
				torn := int64(0)
				if h.kind != 0 {
					torn = min(h.size(), s.size-s.off)
				}
				s.torn += s.off - s.began + torn
				s.replays = s.replays[:s.whole]
				return s.began, nil
			}
			s.damage(s.off, h.id, reason)
			s.replays = s.replays[:s.whole]
			s.began = at
			s.seek(at)
			continue
		}
		s.keep(&h, meta)
		s.off += h.size()
		if h.last {
			s.whole, s.began = len(s.replays), s.off
		}
	}
}

// keep parses a record. One that can not be parsed is damage, though its checksum is right.
func (s *scan) keep(h *header, meta []byte) {
	p := replay{kind: h.kind, id: h.id, at: ref{s.key.number, uint32(s.off), uint32(h.size())}}
	var err error
	switch h.kind {
	case kindMessage:
		p.msg = &foundMessage{at: p.at}
		m := messageMeta{parts: p.msg.one[:0]}
		err = m.parse(meta)
		p.msg.fromFile, p.msg.rank, p.msg.parts = m.fromFile, sched.RankOf(m.priority, envcodec.ReversePath(m.envelope)), m.parts
	case kindState:
		p.route, p.res, _, err = parseStateHead(meta)
	case kindFlags:
		p.route, p.flags, err = parseFlagsMeta(meta)
	}
	if err != nil {
		s.damage(s.off, h.id, err.Error())
		p.kind = 0
	}
	s.replays = append(s.replays, p)
}

func unlessShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

func (s *scan) seek(off int64) {
	s.r.Reset(io.NewSectionReader(s.at, off, s.size-off))
	s.off = off
}

// record reads the record at s.off; its meta is valid until the next. The reason says why there is none.
func (s *scan) record() (h header, meta []byte, reason string, err error) {
	var head [recordHeader]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return h, nil, "end of file", unlessShort(err)
	}
	h, ok := parseHeader(head[:])
	if !ok || s.off+h.size() > s.size {
		return header{}, nil, "header of a record", nil
	}
	if need := int(recordHeader + h.metaLen); cap(s.buffer) < need {
		s.buffer = make([]byte, need)
	}
	whole := s.buffer[:recordHeader+h.metaLen]
	copy(whole, head[:])
	if _, err := io.ReadFull(s.r, whole[recordHeader:]); err != nil {
		return h, nil, "end of file", unlessShort(err)
	}
	if !validMeta(whole, &h, s.key) {
		return header{}, nil, "checksum of a record", nil
	}
	rest := int(h.size()) - len(whole)
	if s.checkBodies && h.bodyLen > 0 {
		sum := crc32.New(castagnoli)
		if _, err := io.CopyN(sum, s.r, int64(h.bodyLen)); err != nil {
			return h, nil, "end of file", unlessShort(err)
		}
		if sum.Sum32() != h.bodyCRC {
			return h, nil, "checksum of a body", nil
		}
		rest -= int(h.bodyLen)
	}
	if _, err := s.r.Discard(rest); err != nil && unlessShort(err) != nil {
		return h, nil, "", err
	}
	return h, whole[recordHeader:], "", nil
}

// resync looks from off on for the next record whose checksum is right. Of all that follow it
// returns the first that proves, by its durable, that the octets at lost were synced once; at is -1
// when none does.
func (s *scan) resync(off, lost int64) (at, durable int64, err error) {
	off = (off + recordAlign - 1) &^ (recordAlign - 1)
	first := int64(-1)
	buf := make([]byte, 64<<10)
	for off < s.size {
		n, err := s.at.ReadAt(buf, off)
		if unlessShort(err) != nil {
			return 0, 0, err
		}
		for i := 0; i+recordHeader <= n; i += recordAlign {
			h, ok := parseHeader(buf[i:n])
			here := off + int64(i)
			if !ok || here+h.size() > s.size {
				continue
			}
			whole := make([]byte, recordHeader+h.metaLen)
			if _, err := s.at.ReadAt(whole, here); err != nil || !validMeta(whole, &h, s.key) {
				continue
			}
			if first < 0 {
				first = here
			}
			if int64(h.durable) > lost {
				return first, int64(h.durable), nil
			}
		}
		if n < len(buf) {
			break
		}
		off += int64(n) - recordHeader // a header may lie across the end of buf
		off = (off + recordAlign - 1) &^ (recordAlign - 1)
	}
	return -1, 0, nil
}

func (s *scan) damage(off int64, id uint64, reason string) {
	d := Damage{File: s.name, Offset: off, Reason: reason}
	if id != 0 {
		d.ID = sched.FormatID(id)
	}
	s.damages = append(s.damages, d)
}

// apply does to the found messages what the record says.
func (f *found) apply(p *replay) {
	f.maxID = max(f.maxID, p.id)
	switch p.kind {
	case kindMessage:
		f.messages[p.id] = p.msg
	case kindState:
		m := f.messages[p.id]
		if i := m.part(p.route); i >= 0 {
			part := &m.parts[i]
			part.Due, part.Alarm, part.Done = p.res.Due, p.res.Alarm, p.res.Done
			if m.states == nil {
				m.states = make([]ref, len(m.parts))
			}
			m.states[i] = p.at
		}
	case kindFlags:
		m := f.messages[p.id]
		if i := m.part(p.route); i >= 0 {
			m.parts[i].Hold, m.parts[i].Expire = p.flags.Hold, p.flags.Expire
		}
	case kindGone:
		delete(f.messages, p.id)
	}
}

// part finds the part on a route; -1 also for a message that is not there: the records of one that
// is gone may outlive it.
func (m *foundMessage) part(route string) int {
	if m == nil {
		return -1
	}
	return slices.IndexFunc(m.parts, func(p sched.Part) bool { return p.Route == route })
}
