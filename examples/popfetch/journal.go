package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/maildir"
)

// A journal remembers which messages of a server are here, by their UIDs. Each line is
//
//	UID SP base-name LF
//
// and is synced after the message was staged under that name and before it is committed. A
// crash between leaves a staged message that the next start commits; one before leaves
// nothing that is remembered, and the message is fetched again. A torn last line is cut off.
type journal struct {
	path string
	dir  maildir.Dir
	f    *os.File
	uids map[string]string // base by UID
}

func openJournal(path string, dir maildir.Dir) (*journal, error) {
	j := &journal{path: path, dir: dir, uids: make(map[string]string)}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j.f = f
	r := bufio.NewReader(f)
	var whole int64
	last := ""
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		uid, base, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || uid == "" {
			return nil, errors.Join(fmt.Errorf("%s: damaged line %.60q", path, line), f.Close())
		}
		whole += int64(len(line))
		j.uids[uid] = base
		last = base
	}
	if err := f.Truncate(whole); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if last != "" {
		// Only the last one can be noted and not committed.
		if _, err := dir.Commit(last, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(err, f.Close())
		}
	}
	return j, atomicfile.SyncDir(string(dir))
}

func (j *journal) has(uid string) bool {
	_, ok := j.uids[uid]
	return ok
}

// deliver stores a message and remembers it, or neither.
func (j *journal) deliver(ctx context.Context, uid string, r io.Reader) error {
	base, err := j.dir.Stage(ctx, r)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(j.f, "%s %s\n", uid, base); err != nil {
		j.dir.Discard(base)
		return err
	}
	if err := j.f.Sync(); err != nil {
		return err // whether it is noted is not known: the next start commits it, or fetches it again
	}
	j.uids[uid] = base
	_, err = j.dir.Commit(base, "")
	return err
}

// keepOnly forgets the messages that the server does not have any more, when they are most.
func (j *journal) keepOnly(there func(uid string) bool) error {
	var b strings.Builder
	kept := 0
	for uid, base := range j.uids {
		if there(uid) {
			kept++
			fmt.Fprintf(&b, "%s %s\n", uid, base)
		}
	}
	if kept*2 > len(j.uids) {
		return nil
	}
	return atomicfile.Write(j.path, []byte(b.String()), 0o600)
}

func (j *journal) close() { _ = j.f.Close() }
