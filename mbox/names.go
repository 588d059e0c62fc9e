package mbox

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/dotlock"
	"github.com/mailblocks/mailblocks/internal/mutf7"
	"github.com/mailblocks/mailblocks/internal/subscriptions"
)

// A mailbox A/B is the file A/B below the root, its levels in modified UTF-7. Characters that
// would make a level something else are encoded too, which Dovecot can not write but shows: a
// first '.' (hidden) or '~' (a home), the '.' of a last ".lock", and "inbox" at the top.

const (
	inboxFile = "inbox"
	useSuffix = ".mbox-use" // the special use of a mailbox
)

// sidecars are all the files of ours that belong to a mailbox.
var sidecars = []string{indexSuffix, indexSuffix + ".new", useSuffix, undoSuffix, redoSuffix, newSuffix}

// maxLevel leaves room for the names of sidecars and lock files.
const maxLevel = 200

func encodeLevel(level string, top bool) (string, error) {
	also := ""
	if level[0] == '.' || level[0] == '~' || strings.HasSuffix(level, ".lock") {
		also = ".~"
	}
	if top && level == inboxFile {
		also = level
	}
	name := mutf7.Encode(level, also)
	if len(name) > maxLevel {
		return "", fmt.Errorf("%w: too long", imap.ErrBadName)
	}
	return name, nil
}

// levelName returns the level of the hierarchy that a file or folder is, and whether it is one.
func levelName(file string, top bool) (string, bool) {
	if file[0] == '.' || strings.HasSuffix(file, ".lock") || top && file == inboxFile {
		return "", false
	}
	if s, err := mutf7.Decode(file); err == nil && !strings.Contains(s, "/") {
		return s, true
	}
	return file, true
}

// dir returns the folder of a level.
func (s *Store) dir(name string) (string, error) {
	if err := imap.CheckName(name); err != nil {
		return "", err
	}
	path := s.root
	for i, level := range strings.Split(name, "/") {
		// A name that is there in UTF-8 is taken.
		if plain := filepath.Join(path, level); level[0] != '.' && level[0] != '~' && !(i == 0 && level == inboxFile) &&
			!strings.HasSuffix(level, ".lock") && mutf7.Encode(level, "") != level && !strings.Contains(level, "&") {
			if _, err := os.Lstat(plain); err == nil {
				path = plain
				continue
			}
		}
		file, err := encodeLevel(level, i == 0)
		if err != nil {
			return "", err
		}
		if s.opts.DirName != "" && file == s.opts.DirName {
			return "", imap.ErrBadName
		}
		path = filepath.Join(path, file)
	}
	return path, nil
}

// file returns the file of a mailbox, which may not be there.
func (s *Store) file(name string) (string, error) {
	if name == imap.Inbox {
		return s.opts.Inbox, nil
	}
	path, err := s.dir(name)
	if err == nil && s.opts.DirName != "" {
		path = filepath.Join(path, s.opts.DirName)
	}
	return path, err
}

func isNotDir(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || err != nil && strings.Contains(err.Error(), "not a directory")
}

// indexID returns the mailbox's id, from the head of its index. Empty: there is none.
func indexID(path string) string {
	f, err := os.Open(sidecar(path, indexSuffix))
	if err != nil {
		return ""
	}
	defer f.Close()
	var head [indexHeader]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || [8]byte(head[:]) != indexMagic ||
		crc32.Checksum(head[:indexHeader-4], castagnoli) != binary.LittleEndian.Uint32(head[indexHeader-4:]) {
		return ""
	}
	return hex.EncodeToString(head[24:40])
}

// waitLock takes the lock of the file at path. It waits as long as ctx allows, and two minutes
// at most: then it reports imap.ErrInUse.
func waitLock(ctx context.Context, path string) (*dotlock.Lock, error) {
	start := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		l, err := dotlock.Try(path, filepath.Dir(path))
		if !errors.Is(err, dotlock.ErrHeld) {
			return l, err
		}
		if time.Since(start) > dotlock.Stale+2*time.Second {
			return nil, fmt.Errorf("%s: %w", path, imap.ErrInUse)
		}
		timer := time.NewTimer(wait + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// uidValidityFile holds the last UIDVALIDITY given out in the tree, in digits.
const uidValidityFile = ".mailblocks-uidvalidity"

// nextUIDValidity gives out a UIDVALIDITY that no mailbox below root ever had: the time, or the
// last one and one more.
func nextUIDValidity(ctx context.Context, root string, now time.Time) (uint32, error) {
	path := filepath.Join(root, uidValidityFile)
	l, err := waitLock(ctx, path)
	if err != nil {
		return 0, err
	}
	defer l.Unlock()
	next := uint32(max(1, now.Unix()))
	if b, err := os.ReadFile(path); err == nil {
		if last, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err == nil {
			next = max(next, uint32(last)+1)
		}
	}
	return next, atomicfile.Write(path, fmt.Appendf(nil, "%d\n", next), 0o600)
}

// The subscriptions file in the root. Version 1 has '/' between the levels.
const subscriptionsFile = ".subscriptions"

func subscriptionsOf(root string) subscriptions.File {
	return subscriptions.File{Path: filepath.Join(root, subscriptionsFile), Separator: "/", Check: imap.CheckName}
}

func (s *Store) subscribe(ctx context.Context, name string, on bool) error {
	f := subscriptionsOf(s.root)
	l, err := waitLock(ctx, f.Path)
	if err != nil {
		return err
	}
	defer l.Unlock()
	return f.Set(name, on)
}
