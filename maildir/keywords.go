package maildir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// The letters a-z in file names stand for the keywords in dovecot-keywords: lines
// "<0..25> <name>". It is written under the UID list's lock. A letter without a line is the
// keyword unknown-<number>. Keywords past the 26th live in the index alone.
const keywordsFile = "dovecot-keywords"

const (
	maxLetters    = 26
	unknownPrefix = "unknown-"
)

type keywords struct {
	path  string
	names [maxLetters]string
	info  os.FileInfo
}

// refresh reads the file when it is another one than before, and tells whether it was.
func (k *keywords) refresh() (changed bool, err error) {
	info, err := os.Stat(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		changed = k.info != nil
		*k = keywords{path: k.path}
		return changed, nil
	}
	if err != nil {
		return false, err
	}
	if k.info != nil && os.SameFile(k.info, info) && info.ModTime().Equal(k.info.ModTime()) && info.Size() == k.info.Size() {
		return false, nil
	}
	b, err := os.ReadFile(k.path)
	if err != nil {
		return false, err
	}
	*k = keywords{path: k.path, info: info}
	for line := range strings.SplitSeq(string(b), "\n") {
		num, name, ok := strings.Cut(line, " ")
		if n, err := strconv.Atoi(num); ok && err == nil && 0 <= n && n < maxLetters && imap.Flag(name).Valid() {
			k.names[n] = name
		}
	}
	return true, nil
}

// letter returns the letter of a keyword. When there is none and one is free, and add is
// set, it takes that; save must follow. ok is false when all are taken.
func (k *keywords) letter(name string, add bool) (letter byte, added, ok bool) {
	free := -1
	if num, ok := strings.CutPrefix(name, unknownPrefix); ok {
		// The letter stands in file names already: it gets its line now.
		if n, err := strconv.Atoi(num); err == nil && 0 <= n && n < maxLetters && k.names[n] == "" {
			k.names[n] = name
			return 'a' + byte(n), true, true
		}
	}
	for i, n := range k.names {
		if n != "" && strings.EqualFold(n, name) {
			return 'a' + byte(i), false, true
		}
		if n == "" && free < 0 {
			free = i
		}
	}
	if free < 0 || !add {
		return 0, false, false
	}
	k.names[free] = name
	return 'a' + byte(free), true, true
}

// name returns the keyword of a letter.
func (k *keywords) name(letter byte) string {
	n := int(letter - 'a')
	if k.names[n] == "" {
		return unknownPrefix + strconv.Itoa(n)
	}
	return k.names[n]
}

// save writes the file. Its time of change always rises by a whole second: that is what
// Dovecot compares.
func (k *keywords) save() error {
	var b strings.Builder
	for i, n := range k.names {
		if n != "" {
			b.WriteString(strconv.Itoa(i) + " " + n + "\n")
		}
	}
	if err := atomicfile.Write(k.path, []byte(b.String()), 0o600); err != nil {
		return err
	}
	if k.info != nil {
		if at := time.Now(); at.Unix() <= k.info.ModTime().Unix() {
			at = k.info.ModTime().Truncate(time.Second).Add(time.Second)
			if err := disk.Chtimes(k.path, at); err != nil {
				return err
			}
		}
	}
	info, err := os.Stat(k.path)
	if err != nil {
		return err
	}
	k.info = info
	return nil
}

// systemLetters are the letters of the system flags, in the order of a file name. P, passed,
// has no meaning to IMAP and is kept like any other letter.
var systemLetters = []struct {
	letter byte
	flag   imap.SystemFlags
}{{'D', imap.Draft}, {'F', imap.Flagged}, {'R', imap.Answered}, {'S', imap.Seen}, {'T', imap.Deleted}}

// flags returns the flags that the letters of a file name stand for. Letters with no
// meaning here stand for none.
func (k *keywords) flags(letters string) imap.Flags {
	var system imap.SystemFlags
	var words []string
	for i := range len(letters) {
		c := letters[i]
		switch {
		case 'a' <= c && c <= 'z':
			words = append(words, k.name(c))
		default:
			for _, s := range systemLetters {
				if c == s.letter {
					system |= s.flag
				}
			}
		}
	}
	return imap.MakeFlags(system, words)
}

// letters returns the file name letters for flags, with the unknown letters of old kept, and
// the keywords that have no letter. added tells that save must follow.
func (k *keywords) letters(flags imap.Flags, old string) (letters string, rest []string, added bool) {
	var b []byte
	for _, s := range systemLetters {
		if flags.System()&s.flag != 0 {
			b = append(b, s.letter)
		}
	}
	for i := range len(old) {
		if c := old[i]; !('a' <= c && c <= 'z') && strings.IndexByte("DFRST", c) < 0 {
			b = append(b, c)
		}
	}
	for _, w := range flags.Keywords() {
		c, fresh, ok := k.letter(w, true)
		if !ok {
			rest = append(rest, w)
			continue
		}
		added = added || fresh
		b = append(b, c)
	}
	return string(b), rest, added
}

func newKeywords(dir string) keywords {
	return keywords{path: filepath.Join(dir, keywordsFile)}
}
