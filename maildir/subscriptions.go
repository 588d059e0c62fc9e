package maildir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/mutf7"
)

// The subscriptions file in the root, version 2: "V", TAB, "2", an empty line, then one name
// a line with TAB between its levels, in modified UTF-7. Version 1, as Dovecot before 2.2
// and Courier write it, has dots between the levels and no first line; it is read.
const (
	subscriptionsFile   = "subscriptions"
	subscriptionsHeader = "V\t2\n\n"
)

func readSubscriptions(root string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(root, subscriptionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, version2 := strings.CutPrefix(string(b), subscriptionsHeader)
	sep := "."
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
		if name := strings.Join(levels, "/"); imap.CheckName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// setSubscription adds or removes a name.
func setSubscription(ctx context.Context, root, name string, on bool) error {
	path := filepath.Join(root, subscriptionsFile)
	lock, err := lockFile(ctx, path)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	names, err := readSubscriptions(root)
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
	b := []byte(subscriptionsHeader)
	for _, n := range names {
		b = append(b, strings.ReplaceAll(mutf7.Encode(n, "."), "/", "\t")...)
		b = append(b, '\n')
	}
	return atomicfile.Write(path, b, 0o600)
}
