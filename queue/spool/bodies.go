package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// bodyDirs is how many folders the large bodies are spread over.
const bodyDirs = 32

func bodyDir(n int) string { return fmt.Sprintf("body/%02x", n) }

func bodyName(id uint64) string {
	return bodyDir(int(id%bodyDirs)) + "/" + string(sched.FormatID(id)) + ".eml"
}

// writeBody stores the body of a large message, first what was read already and then the rest of
// r, and makes it durable. The message exists when its record is committed, which must
// come after; a file that gets no record is removed by the next Open.
func writeBody(fsys fileSystem, id uint64, read []byte, r io.Reader) (size int64, err error) {
	name := bodyName(id)
	f, err := fsys.Create(name)
	if err != nil {
		return 0, fmt.Errorf("queue/spool: store body: %w", err)
	}
	n, err := f.Write(read)
	size = int64(n)
	if err == nil {
		var rest int64
		rest, err = io.CopyBuffer(onlyWriter{f}, onlyReader{r}, make([]byte, 64<<10))
		size += rest
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.SyncDir(bodyDir(int(id % bodyDirs)))
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("queue/spool: store body: %w", err), fsys.Remove(name))
	}
	return size, nil
}

// onlyWriter and onlyReader keep io.CopyBuffer from other ways, which may use larger buffers.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// sweepBodies removes the body files that no message has, and finds messages whose file is
// missing.
func sweepBodies(fsys fileSystem, f *found) error {
	seen := make(map[uint64]bool)
	for n := range bodyDirs {
		entries, err := fsys.ReadDir(bodyDir(n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("queue/spool: %w", err)
		}
		for _, e := range entries {
			text, isBody := strings.CutSuffix(e.Name(), ".eml")
			id, ok := parseID(text)
			if !isBody || !ok {
				continue // not ours
			}
			f.maxID = max(f.maxID, id)
			if m := f.messages[id]; m != nil && m.fromFile {
				seen[id] = true
				continue
			}
			if err := fsys.Remove(bodyDir(n) + "/" + e.Name()); err != nil {
				return fmt.Errorf("queue/spool: remove orphan: %w", err)
			}
			f.report.Orphans++
		}
	}
	for id, m := range f.messages {
		if m.fromFile && !seen[id] {
			f.report.Damage = append(f.report.Damage, Damage{File: bodyName(id), ID: sched.FormatID(id), Reason: "body is missing"})
		}
	}
	return nil
}
