package maildir

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// The UID list, dovecot-uidlist, version 3. Lines end in LF; UIDs ascend.
//
//	file   = header *record
//	header = "3" *( " " letter value ) LF        V UIDVALIDITY, N next UID, G mailbox GUID (32 hex)
//	record = uid *( " " letter value ) " :" base LF
//
// N is exact only after a rewrite: the next UID is the greater of N and the last UID plus
// one. Record letters: S and W sizes that the name lacks, G GUID of the message (its base
// when missing), P and O for POP3. Other letters, and values, are kept as they stand.
// Records of expunged messages stay until a rewrite. Version 1 ("1 validity next" and
// "uid name") is read.
//
// Writers hold the dot lock. A record is appended in one write and synced, so a crash tears
// at most the last line; a last line without LF is no record, and the next writer cuts it off.
const uidListFile = "dovecot-uidlist"

// A uidRecord is one line of the list.
type uidRecord struct {
	uid   imap.UID
	base  string
	extra string // " Letter…" fields as they stand, with a leading space; or empty
}

// guid returns the record's identity across copies.
func (r uidRecord) guid() string {
	for field := range strings.FieldsSeq(r.extra) {
		if field[0] == 'G' && len(field) > 1 {
			return field[1:]
		}
	}
	return r.base
}

// uidl returns the record's POP3 name, if it has one of its own.
func (r uidRecord) uidl() (string, bool) {
	for field := range strings.FieldsSeq(r.extra) {
		if field == "P" {
			return r.base, true
		}
		if field[0] == 'P' {
			return field[1:], true
		}
	}
	return "", false
}

// A uidList is the list as last read from the file. What is damaged in it is passed over:
// a line that is no record loses one UID, a header that is none loses the UIDVALIDITY, and
// the next writer writes the file anew.
type uidList struct {
	path     string
	validity uint32   // zero: the header is damaged, or there is no file
	next     imap.UID // greater than all UIDs ever given out
	last     imap.UID // the last record's
	guid     string
	extra    string // header fields of other letters
	file     pin
	read     int64 // octets taken in: whole lines
	lines    int
	damaged  int  // lines passed over
	version1 bool // as Courier writes it
}

// stale reports whether the file must be written anew rather than appended to.
func (l *uidList) stale() bool {
	return l.file.info == nil || l.version1 || l.guid == "" || l.validity == 0 || l.damaged > 0
}

// refresh reads what is new in the file and gives each record to add. When the file is
// another one than before, it starts over, calling reset first. fs.ErrNotExist: none there.
func (l *uidList) refresh(reset func(), add func(uidRecord)) error {
	info, err := os.Stat(l.path)
	if err != nil {
		return err
	}
	if !l.file.is(info) || info.Size() < l.read {
		file, err := pinned(l.path)
		if err != nil {
			return err
		}
		l.file.release()
		*l = uidList{path: l.path, next: 1}
		reset()
		l.file = file
	} else {
		l.file.info = info
	}
	f, err := l.file.reader(l.path, l.read)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return nil // a torn line is no record
		case err == bufio.ErrBufferFull:
			l.damaged++
			l.read += int64(len(line))
			continue
		case err != nil:
			return err
		}
		first := l.read == 0
		l.read += int64(len(line))
		line = line[:len(line)-1]
		if first {
			if !l.parseHeader(string(line)) {
				l.damaged++
			}
			continue
		}
		if rec, ok := l.parseRecord(line); ok {
			l.lines++
			l.last = rec.uid
			l.next = max(l.next, rec.uid+1)
			add(rec)
		} else {
			l.damaged++
		}
	}
}

// readHeader reads the first line alone.
func (l *uidList) readHeader() error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4<<10)).ReadString('\n')
	if err != nil || !l.parseHeader(strings.TrimSuffix(line, "\n")) {
		return fmt.Errorf("maildir: %s: damaged header", l.path)
	}
	return nil
}

func (l *uidList) parseHeader(line string) bool {
	fields := strings.Fields(line)
	if len(fields) == 3 && fields[0] == "1" {
		fields[1], fields[2] = "V"+fields[1], "N"+fields[2]
		l.version1 = true
	} else if len(fields) == 0 || fields[0] != "3" {
		return false
	}
	for _, field := range fields[1:] {
		value := field[1:]
		switch field[0] {
		case 'V', 'N':
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil || n == 0 {
				return false
			}
			if field[0] == 'V' {
				l.validity = uint32(n)
			} else {
				l.next = imap.UID(n)
			}
		case 'G':
			l.guid = value
		default:
			l.extra += " " + field
		}
	}
	return l.validity != 0
}

func (l *uidList) parseRecord(line []byte) (rec uidRecord, ok bool) {
	num, rest, found := bytes.Cut(line, []byte(" "))
	uid, err := strconv.ParseUint(string(num), 10, 32)
	if !found || err != nil || uid <= uint64(l.last) || uid == math.MaxUint32 {
		return rec, false
	}
	rec.uid = imap.UID(uid)
	switch i := bytes.Index(rest, []byte(" :")); {
	case l.version1:
		rec.base = string(rest)
	case len(rest) > 0 && rest[0] == ':':
		rec.base = string(rest[1:])
	case i > 0:
		rec.extra, rec.base = " "+string(rest[:i]), string(rest[i+2:])
	}
	rec.base = ParseName(rec.base).Base
	return rec, checkBase(rec.base) == nil
}

func (rec uidRecord) appendTo(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(rec.uid), 10)
	b = append(b, rec.extra...)
	b = append(b, " :"...)
	b = append(b, rec.base...)
	return append(b, '\n')
}

// append adds records at the end of the file and syncs it. The lock is held, and the list
// was refreshed under it.
func (l *uidList) append(recs []uidRecord) (err error) {
	f, err := disk.OpenFile(l.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	var b []byte
	for _, rec := range recs {
		b = rec.appendTo(b)
	}
	if l.file.info.Size() > l.read {
		if err := f.Truncate(l.read); err != nil { // the torn line of a crash
			return err
		}
	}
	if _, err := f.WriteAt(b, l.read); err != nil {
		_ = f.Truncate(l.read)
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	l.read += int64(len(b))
	l.lines += len(recs)
	l.last = recs[len(recs)-1].uid
	l.next = max(l.next, l.last+1)
	l.file.info, err = f.Stat()
	return err
}

// write replaces the file by one with these records. The lock is held.
func (l *uidList) write(recs func(yield func(uidRecord) bool)) error {
	if l.guid == "" {
		l.guid = newGUID()
	}
	lines, last, size := 0, imap.UID(0), int64(0)
	err := atomicfile.WriteFunc(l.path, 0o600, func(w io.Writer) error {
		b := fmt.Appendf(nil, "3 V%d N%d G%s%s\n", l.validity, max(l.next, 1), l.guid, l.extra)
		for rec := range recs {
			b = rec.appendTo(b)
			lines, last = lines+1, rec.uid
			if len(b) > 64<<10 {
				size += int64(len(b))
				if _, err := w.Write(b); err != nil {
					return err
				}
				b = b[:0]
			}
		}
		size += int64(len(b))
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	l.file.release()
	if l.file, err = pinned(l.path); err != nil {
		return err
	}
	l.read, l.lines, l.last = size, lines, last
	l.damaged, l.version1 = 0, false
	return nil
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
