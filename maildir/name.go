package maildir

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// infoSep stands between the base of a file name and its info. Windows has no colon.
var infoSep = map[bool]string{false: ":", true: ";"}[runtime.GOOS == "windows"]

// A Name is a message's file name in parts:
//
//	name  = base [ ":2," flags [ "," more ] ]
//	base  = unique *( "," field )             the message's identity; never changes
//	field = "S=" octets / "W=" octets / ...   size of the file, size with CRLF line ends
//	flags = *letter                           D F P R S T, and a-z for keywords; ASCII order
//
// What it does not know (other letters, fields, or a whole other info such as ":1,x") it
// keeps as it found it.
type Name struct {
	Base string // before the colon
	Info string // from the colon on; empty in new/
}

// ParseName splits a file name. Every file name is some Name.
func ParseName(file string) Name {
	if i := strings.Index(file, infoSep); i >= 0 {
		return Name{file[:i], file[i:]}
	}
	return Name{Base: file}
}

// String returns the file name.
func (n Name) String() string { return n.Base + n.Info }

// Flags returns the letters of the info, as they stand.
func (n Name) Flags() string {
	info, ok := strings.CutPrefix(n.Info, infoSep+"2,")
	if !ok {
		return ""
	}
	flags, _, _ := strings.Cut(info, ",")
	return flags
}

// WithFlags returns the name with these letters, sorted and each once. Data behind a second
// comma stays.
func (n Name) WithFlags(letters string) Name {
	set := []byte(letters)
	slices.Sort(set)
	set = slices.Compact(set)
	more := ""
	if info, ok := strings.CutPrefix(n.Info, infoSep+"2,"); ok {
		if i := strings.IndexByte(info, ','); i >= 0 {
			more = info[i:]
		}
	}
	n.Info = infoSep + "2," + string(set) + more
	return n
}

// Size returns the octets of the file by its S= field, and whether there is one.
func (n Name) Size() (int64, bool) { return n.field(",S=") }

// CRLFSize returns the octets of the message with CRLF line ends by its W= field, and
// whether there is one.
func (n Name) CRLFSize() (int64, bool) { return n.field(",W=") }

func (n Name) field(key string) (int64, bool) {
	_, s, ok := strings.Cut(n.Base, key)
	if !ok {
		return 0, false
	}
	if i := strings.IndexByte(s, ','); i >= 0 {
		s = s[:i]
	}
	v, err := strconv.ParseInt(s, 10, 63)
	return v, err == nil && v >= 0
}

var (
	deliveries atomic.Uint64
	hostname   = func() string {
		h, err := os.Hostname()
		if err != nil || h == "" {
			h = "localhost"
		}
		return strings.NewReplacer("/", `\057`, ":", `\072`, ",", `\054`, ";", `\073`).Replace(h)
	}()
)

// unique returns a base that no other delivery on this host has, in any process.
func unique(now time.Time) string {
	return fmt.Sprintf("%d.M%dP%dQ%d.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), deliveries.Add(1), hostname)
}

var errBadBase = errors.New("maildir: not a base name")

// checkBase refuses what can not be the base of a file name in a UID list.
func checkBase(base string) error {
	if base == "" || base[0] == '.' || strings.ContainsAny(base, "/\n\r\x00"+infoSep) {
		return errBadBase
	}
	return nil
}

// sortByDelivery puts new messages in the order of their delivery: leading seconds, then the
// microseconds of an M field when both have one, then the octets.
func sortByDelivery(refs []Ref) {
	type timed struct {
		sec, usec int64
		ref       Ref
	}
	list := make([]timed, len(refs))
	for i, ref := range refs {
		sec, usec := deliveryTime(ref.Name.Base)
		list[i] = timed{sec, usec, ref}
	}
	slices.SortFunc(list, func(a, b timed) int {
		switch {
		case a.sec != b.sec:
			return cmpInt(a.sec, b.sec)
		case a.usec >= 0 && b.usec >= 0 && a.usec != b.usec:
			return cmpInt(a.usec, b.usec)
		}
		return strings.Compare(a.ref.Name.Base, b.ref.Name.Base)
	})
	for i := range list {
		refs[i] = list[i].ref
	}
}

func cmpInt(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
}

func deliveryTime(base string) (sec, usec int64) {
	i := 0
	for i < len(base) && i < 18 && '0' <= base[i] && base[i] <= '9' {
		sec = 10*sec + int64(base[i]-'0')
		i++
	}
	usec = -1
	if rest := base[i:]; strings.HasPrefix(rest, ".M") {
		usec = 0
		for j := 2; j < len(rest) && j < 18 && '0' <= rest[j] && rest[j] <= '9'; j++ {
			usec = 10*usec + int64(rest[j]-'0')
		}
	}
	return sec, usec
}
