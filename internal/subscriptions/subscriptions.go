// Package subscriptions reads and writes the file of subscribed mailboxes as Dovecot keeps it. Version 2 is "V", TAB, "2",
// an empty line, then one name a line with TAB between its levels, in modified UTF-7. Without that head a file is of
// version 1, where another separator stands between the levels; it is read.
package subscriptions

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/mutf7"
)

const header = "V\t2\n\n"

// A File is one such file.
type File struct {
	Path      string
	Separator string                  // of version 1
	Escape    string                  // characters that are encoded in names, too
	Check     func(name string) error // names that it refuses are passed over
}

// Read returns the names with "/" between their levels, sorted, each once. A file that is not there has none.
func (f File) Read() ([]string, error) {
	b, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, version2 := strings.CutPrefix(string(b), header)
	sep := f.Separator
	if version2 {
		sep = "\t"
	}
	var names []string
	for line := range strings.Lines(text) {
		levels := strings.Split(strings.TrimSuffix(line, "\n"), sep)
		for i, level := range levels {
			if s, err := mutf7.Decode(level); err == nil {
				levels[i] = s
			}
		}
		if name := strings.Join(levels, "/"); f.Check(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Set adds a name or removes it. The caller holds the file's lock.
func (f File) Set(name string, on bool) error {
	names, err := f.Read()
	if err != nil {
		return err
	}
	i, found := slices.BinarySearch(names, name)
	switch {
	case on && !found:
		names = slices.Insert(names, i, name)
	case !on && found:
		names = slices.Delete(names, i, i+1)
	default:
		return nil
	}
	b := []byte(header)
	for _, n := range names {
		b = append(b, strings.ReplaceAll(mutf7.Encode(n, f.Escape), "/", "\t")...)
		b = append(b, '\n')
	}
	return atomicfile.Write(f.Path, b, 0o600)
}
