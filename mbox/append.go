package mbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// An append is guarded by an undo record, ".<file>.mbox-undo" beside the file:
//
//	record = "mbox-undo 1" LF size LF *( separator )     size: of the file before, in digits
//
//	state            record  file                 after a crash, the next lock
//	before           none    old                  does nothing
//	record synced    there   old                  removes the record
//	writing          there   old + a part         truncates to old, removes the record
//	file synced      there   old + new            truncates to old, removes the record: nobody was told
//	record removed   none    old + new            does nothing
//
// Another program that knows no records may have appended behind the part. So the file is
// truncated only when the separators behind the old size are those of the record, in its
// order, from the first on: what another program wrote stays, and with it our part. So does a
// part that holds a whole separator as text, quoted or counted: it may be another's.
const undoHeader = "mbox-undo 1\n"

// An Outgoing is a message to append.
type Outgoing struct {
	Sender string    // of the separator; empty: MAILER-DAEMON
	Date   time.Time // of the separator; zero: now
	Body   io.Reader // the message, read until io.EOF once
}

// Append locks the file at path, made where there is none, and appends the messages: all or
// none. When it returns nil they survive a power cut. When it fails, or the process or
// the machine does, the file is as it was: at once, or as soon as LockFile or Append is called
// again; but for a torn message that has what looks like a separator in it, in a dialect that
// does not quote it: see the top of this file. A last line without LF, as a crash of another program leaves it, gets one first.
func Append(ctx context.Context, path string, lock *LockOptions, opts *WriterOptions, msgs ...Outgoing) error {
	l, err := LockFile(ctx, path, lock)
	if err != nil {
		return err
	}
	defer l.Unlock() // the messages are there or not; a lock file that stays grows stale
	return l.Append(ctx, opts, msgs...)
}

// Append is the function Append on a file that is locked already.
func (l *Lock) Append(ctx context.Context, opts *WriterOptions, msgs ...Outgoing) error {
	if err := l.append(ctx, opts, msgs); err != nil {
		return fmt.Errorf("mbox: append to %s: %w", l.path, err)
	}
	return nil
}

func (l *Lock) append(ctx context.Context, opts *WriterOptions, msgs []Outgoing) (err error) {
	var o WriterOptions
	if opts != nil {
		o = *opts
	}
	if o.Dialect == Auto {
		o.Dialect = RD
	}
	size, err := l.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	record := []byte(undoHeader + strconv.FormatInt(size, 10) + "\n")
	now := time.Now()
	msgs = slices.Clone(msgs)
	for i := range msgs {
		if msgs[i].Date.IsZero() {
			msgs[i].Date = now
		}
		line, err := formatSeparator(msgs[i].Sender, msgs[i].Date, o.Location, o.Dialect)
		if err != nil {
			return fmt.Errorf("message of %q: %w", msgs[i].Sender, err)
		}
		record = append(record, line...)
	}
	if err := atomicfile.Write(l.undo(), record, 0o600); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		terr := l.f.Truncate(size)
		if terr == nil {
			terr = l.f.Sync()
		}
		if terr == nil {
			terr = os.Remove(l.undo())
		}
		if terr != nil { // the record stays: the next lock tries again
			err = errors.Join(err, fmt.Errorf("roll back: %w", terr))
		}
	}()
	if size > 0 {
		var last [1]byte
		if _, err := l.f.ReadAt(last[:], size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			if _, err := l.f.Write([]byte("\n")); err != nil {
				return err
			}
		}
	}
	w := NewWriter(l.f, &o)
	for _, m := range msgs {
		if err := w.Write(m.Sender, m.Date, &touchingReader{ctx, l, m.Body}); err != nil {
			return err
		}
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	if err := os.Remove(l.undo()); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(l.path))
}

const undoSuffix = ".mbox-undo"

func (l *Lock) undo() string { return sidecar(l.path, undoSuffix) }

// recoverAppend undoes an append that a crash cut short.
func recoverAppend(l *Lock) error {
	record, err := os.ReadFile(l.undo())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, lines, ok := parseUndo(string(record))
	if !ok {
		return fmt.Errorf("%s is not an undo record", l.undo())
	}
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > size {
		ours, err := onlyOurs(io.NewSectionReader(l.f, size, info.Size()-size), lines)
		if err != nil {
			return err
		}
		if ours {
			if err := l.f.Truncate(size); err != nil {
				return err
			}
			if err := l.f.Sync(); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(l.undo()); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(l.path))
}

func parseUndo(record string) (size int64, lines []string, ok bool) {
	rest, ok := strings.CutPrefix(record, undoHeader)
	if !ok {
		return 0, nil, false
	}
	number, rest, ok := strings.Cut(rest, "\n")
	size, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || size < 0 {
		return 0, nil, false
	}
	for line := range strings.Lines(rest) {
		lines = append(lines, line)
	}
	return size, lines, true
}

// onlyOurs tells whether the separators in r are lines, or the first of them. Lengths of
// bodies are not believed: a line that may be a separator counts as one.
func onlyOurs(r io.Reader, lines []string) (bool, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for start := true; ; {
		piece, err := in.ReadSlice('\n')
		for i := 0; ; i += len(fromSpace) {
			j := bytes.Index(piece[i:], []byte(fromSpace))
			if j < 0 {
				break
			}
			i += j
			if _, _, ok := ParseSeparator(string(piece[i:]), nil); !ok {
				continue
			}
			// Not at a line's start, it was appended to our torn line, or is a quoted one of ours:
			// who can tell?
			if !start || i > 0 || len(lines) == 0 || !strings.HasPrefix(lines[0], string(piece)) {
				return false, nil
			}
			lines = lines[1:]
		}
		start = err == nil
		if err == io.EOF {
			return true, nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return false, err
		}
	}
}
