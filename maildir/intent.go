package maildir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// Messages that come together, by an Append or a Copy of several, come all or none also when
// the power fails among their renames. Before these the names are written down in a file, which
// goes when their UIDs are in the UID list; who finds it removes what came, unless a UID shows
// that all did. One message alone needs none of this: its rename is the whole of it. Writers
// hold the UID list's lock.
//
//	file  = *( group LF )
//	group = 2*( "new/" name LF / "cur/" name LF )
const intentFile = "mailblocks-arriving"

// announce writes down what is to come together. It returns what to call when it has come, or
// has been undone.
func (f *folder) announce(batch []*arrival) (done func(), err error) {
	var b []byte
	for _, a := range batch {
		if len(a.msgs) < 2 {
			continue
		}
		for _, m := range a.msgs {
			b = append(append(b, f.dir.within(m.ref)...), '\n')
		}
		b = append(b, '\n')
	}
	if b == nil {
		return func() {}, nil
	}
	path := filepath.Join(string(f.dir), intentFile)
	return func() { _ = disk.Remove(path) }, atomicfile.Write(path, b, 0o600)
}

// takeBack removes messages of which only some may have come. The UID list was read.
func (f *folder) takeBack() error {
	path := filepath.Join(string(f.dir), intentFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !f.uids.stale() { // a list that lacks UIDs says nothing
		for group := range strings.SplitAfterSeq(string(b), "\n\n") {
			group, whole := strings.CutSuffix(group, "\n\n")
			if !whole {
				break
			}
			if err := f.takeBackGroup(strings.Split(group, "\n")); err != nil {
				return err
			}
		}
	}
	return disk.Remove(path)
}

func (f *folder) takeBackGroup(names []string) error {
	var files []string
	for _, name := range names {
		sub, file := filepath.Split(filepath.FromSlash(name))
		n := ParseName(file)
		if sub = filepath.Clean(sub); sub != "new" && sub != "cur" || checkBase(n.Base) != nil {
			return nil // not of our making
		}
		if _, known := f.lines[n.Base]; known {
			return nil
		}
		files = append(files, filepath.Join(string(f.dir), sub, file))
	}
	for _, file := range files {
		if err := disk.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for i := range f.scans {
		f.scans[i].stale = true
		if err := atomicfile.SyncDir(f.scans[i].dir); err != nil {
			return err
		}
	}
	return nil
}
