package imap

import (
	"context"
	"fmt"
	"maps"
	"strings"
)

// Annotations is implemented by Stores that keep annotations of mailboxes (RFC 5464): small
// texts by name. They follow their mailbox when it is renamed and go when it is deleted. Those
// of the empty mailbox name are the Store's own. Renaming the Inbox copies its annotations.
//
// An entry's name is in lower case and begins with "/private/", for those of the Store's
// owner, or with "/shared/", for those of all who may see the mailbox.
type Annotations interface {
	// Annotations returns all entries of a mailbox with their values. ErrNoMailbox.
	Annotations(ctx context.Context, mailbox string) (map[string]string, error)
	// Annotate makes all the changes, durably, or none. ErrNoMailbox; ErrTooBig and
	// ErrLimit as Annotated reports them.
	Annotate(ctx context.Context, mailbox string, changes []Annotation) error
}

// Annotation is a new value for an entry, or its removal.
type Annotation struct {
	Entry  string
	Value  string
	Remove bool
}

// What the annotations of one mailbox may be.
const (
	MaxAnnotation      = 64 << 10 // octets of a value
	MaxAnnotations     = 200      // entries
	maxAnnotationsSize = 1 << 20  // octets of all values together
	maxEntry           = 255      // octets of an entry's name
)

// Annotated returns the annotations that changes make of old, which stays as it is. ErrTooBig:
// a value over MaxAnnotation. ErrLimit: more than MaxAnnotations entries, more than 1 MiB of
// values together, or a name over 255 octets.
func Annotated(old map[string]string, changes []Annotation) (map[string]string, error) {
	entries := maps.Clone(old)
	if entries == nil {
		entries = make(map[string]string)
	}
	for _, c := range changes {
		switch {
		case c.Remove:
			delete(entries, c.Entry)
		case len(c.Value) > MaxAnnotation:
			return nil, fmt.Errorf("annotation %.60q of %d octets: %w", c.Entry, len(c.Value), ErrTooBig)
		case len(c.Entry) > maxEntry:
			return nil, fmt.Errorf("annotation %.60q: %w", c.Entry, ErrLimit)
		default:
			entries[c.Entry] = c.Value
		}
	}
	if size := valuesSize(entries); len(entries) > MaxAnnotations && len(entries) > len(old) || size > maxAnnotationsSize && size > valuesSize(old) {
		return nil, fmt.Errorf("%d annotations of %d octets: %w", len(entries), size, ErrLimit)
	}
	return entries, nil
}

func valuesSize(entries map[string]string) (n int) {
	for _, v := range entries {
		n += len(v)
	}
	return n
}

// ValidEntry reports whether name can name an annotation (RFC 5464, 3.2): "/private" or
// "/shared" and one more level at least, printable ASCII without "*" and "%", no empty level.
func ValidEntry(name string) bool {
	if len(name) > maxEntry || !strings.HasPrefix(name, "/private/") && !strings.HasPrefix(name, "/shared/") {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '*' || c == '%' {
			return false
		}
	}
	return !strings.Contains(name, "//") && !strings.HasSuffix(name, "/")
}
