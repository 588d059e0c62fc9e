package maildir

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// The annotations of a mailbox are a file of ours in its folder, those of the store another one
// in the root. Writers hold its dot lock and replace it whole.
//
//	file = *( entry SP value LF )       entry without blanks; value in base64, empty as "="
//
// A line that is none is passed over, and gone with the next change.
const (
	annotationsFile      = "mailblocks-annotations"
	storeAnnotationsFile = "mailblocks-annotations-store"
)

// maxSideFile bounds what is read of a file of annotations or rights.
const maxSideFile = 32 << 20

func readSideFile(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSideFile))
	return string(b), err
}

func parseAnnotations(text string) map[string]string {
	entries := make(map[string]string)
	for line := range strings.Lines(text) {
		entry, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(value, "="))
		if ok && err == nil && imap.ValidEntry(entry) {
			entries[entry] = string(b)
		}
	}
	return entries
}

func formatAnnotations(entries map[string]string) []byte {
	var b []byte
	for _, entry := range slices.Sorted(maps.Keys(entries)) {
		b = append(append(b, entry...), ' ')
		if entries[entry] == "" {
			b = append(b, '=')
		}
		b = base64.StdEncoding.AppendEncode(b, []byte(entries[entry]))
		b = append(b, '\n')
	}
	return b
}

// folderOf returns the folder of a mailbox that is there.
func (s *Store) folderOf(name string) (string, error) {
	path, err := s.path(name)
	switch {
	case err != nil:
		return "", imap.ErrNoMailbox
	case isMaildir(path):
		return path, nil
	case s.isLevel(name):
		return "", imap.ErrNotSelectable
	}
	return "", imap.ErrNoMailbox
}

func (s *Store) annotationsPath(mailbox string) (string, error) {
	if mailbox == "" {
		return filepath.Join(s.root, storeAnnotationsFile), nil
	}
	path, err := s.folderOf(mailbox)
	return filepath.Join(path, annotationsFile), err
}

// Annotations implements imap.Annotations.
func (s *Store) Annotations(ctx context.Context, mailbox string) (map[string]string, error) {
	path, err := s.annotationsPath(mailbox)
	if err != nil {
		return nil, fmt.Errorf("maildir: annotations of %q: %w", mailbox, err)
	}
	text, err := readSideFile(path)
	if err != nil {
		return nil, fmt.Errorf("maildir: annotations of %q: %w", mailbox, err)
	}
	return parseAnnotations(text), nil
}

// Annotate implements imap.Annotations.
func (s *Store) Annotate(ctx context.Context, mailbox string, changes []imap.Annotation) error {
	path, err := s.annotationsPath(mailbox)
	if err == nil {
		err = replaceSideFile(ctx, path, func(text string) ([]byte, error) {
			entries, err := imap.Annotated(parseAnnotations(text), changes)
			return formatAnnotations(entries), err
		})
	}
	if err != nil {
		return fmt.Errorf("maildir: annotate %q: %w", mailbox, err)
	}
	return nil
}

// replaceSideFile writes what change makes of the file's text, or removes a file that would be
// empty.
func replaceSideFile(ctx context.Context, path string, change func(text string) ([]byte, error)) error {
	lock, err := lockFile(ctx, path)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	text, err := readSideFile(path)
	if err != nil {
		return err
	}
	b, err := change(text)
	switch {
	case err != nil || string(b) == text:
		return err
	case len(b) > 0:
		return atomicfile.Write(path, b, 0o600)
	}
	if err := disk.Remove(path); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}
