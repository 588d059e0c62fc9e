package imapserver

import (
	"bufio"
	"encoding/hex"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// messageURL names a message or a part of one.
type messageURL struct {
	mailbox     string // empty: the selected one
	uidValidity uint32 // zero: any
	uid         imap.UID
	item        fetchItem // section and partial
}

// imapURL is an absolute one (RFC 5092, 11, with URLAUTH of RFC 4467, 3):
//
//	"imap://" [user [";AUTH=" mech] "@"] host [":" port] "/" message [";EXPIRE=" date-time] [";URLAUTH=" access [":" mech ":" token]]
//	access = "submit+" user / "user+" user / "authuser" / "anonymous"
type imapURL struct {
	messageURL
	user, host string
	expires    time.Time // zero: never
	access     string    // "submit+", "user+", "authuser", "anonymous"; empty: no URLAUTH
	accessUser string
	mech       string // in upper case
	token      []byte // nil in a rump
	rump       string // all but ":mech:token", as it stands
}

var errURL = errors.New("malformed URL")

const urlScheme = "IMAP://"

// isAbsoluteURL reports whether ref is not a relative URL.
func isAbsoluteURL(ref string) bool { return indexFold(ref, urlScheme) == 0 }

func parseURL(s string) (u imapURL, err error) {
	if !isAbsoluteURL(s) {
		return u, errURL
	}
	authority, path, ok := strings.Cut(s[len(urlScheme):], "/")
	if !ok {
		return u, errURL
	}
	u.host = authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user := authority[:i]
		u.host = authority[i+1:]
		if k := indexFold(user, ";AUTH="); k >= 0 {
			user = user[:k]
		}
		if u.user, err = url.PathUnescape(user); err != nil {
			return u, errURL
		}
	}
	if k := strings.LastIndexByte(u.host, ':'); k >= 0 && !strings.HasSuffix(u.host, "]") {
		u.host = u.host[:k]
	}
	u.rump = s
	if k := indexFold(path, ";URLAUTH="); k >= 0 {
		if err := u.parseAuth(path[k+len(";URLAUTH="):]); err != nil {
			return u, err
		}
		path = path[:k]
	}
	if k := indexFold(path, ";EXPIRE="); k >= 0 {
		if u.expires, err = time.Parse(time.RFC3339, path[k+len(";EXPIRE="):]); err != nil {
			return u, errURL
		}
		path = path[:k]
	}
	u.messageURL, err = parseMessageURL(path)
	if err == nil && u.mailbox == "" {
		err = errURL
	}
	return u, err
}

// parseAuth takes what follows ";URLAUTH=".
func (u *imapURL) parseAuth(s string) error {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		k := strings.LastIndexByte(s[:i], ':')
		token, err := hex.DecodeString(s[i+1:])
		if k < 0 || err != nil || len(token) < 16 {
			return errURL
		}
		u.mech, u.token = strings.ToUpper(s[k+1:i]), token
		u.rump = u.rump[:len(u.rump)-len(s)+k]
		s = s[:k]
	}
	for _, prefix := range []string{"submit+", "user+"} {
		if indexFold(s, strings.ToUpper(prefix)) == 0 {
			user, err := url.PathUnescape(s[len(prefix):])
			if err != nil || user == "" {
				return errURL
			}
			u.access, u.accessUser = prefix, user
			return nil
		}
	}
	switch u.access = strings.ToLower(s); u.access {
	case "authuser", "anonymous":
		return nil
	}
	return errURL
}

// names reports whether the URL's user is identity. Where identities are addresses, the host
// may be the domain of one.
func (u *imapURL) names(identity string) bool {
	return u.user != "" && (u.user == identity || u.user+"@"+u.host == identity)
}

// parseMessageURL takes a relative IMAP URL (RFC 5092, 7; RFC 4469, 3):
//
//	["/"] [mailbox] [";UIDVALIDITY=" n] ["/"] ";UID=" n ["/;SECTION=" section] ["/;PARTIAL=" from ["." count]]
//
// where mailbox and section are UTF-8 with octets escaped by "%".
func parseMessageURL(ref string) (u messageURL, err error) {
	ref = strings.TrimPrefix(ref, "/")
	i := indexFold(ref, ";UID=")
	if i < 0 || strings.HasPrefix(ref, "/") || strings.Contains(ref[:i], "://") {
		return u, errURL
	}
	box, rest := strings.TrimSuffix(ref[:i], "/"), ref[i+len(";UID="):]
	if k := indexFold(box, ";UIDVALIDITY="); k >= 0 {
		if u.uidValidity, err = parseNonZero(box[k+len(";UIDVALIDITY="):]); err != nil {
			return u, err
		}
		box = strings.TrimSuffix(box[:k], "/")
	}
	if u.mailbox, err = url.PathUnescape(box); err != nil {
		return u, errURL
	}
	if equalFold(u.mailbox, imap.Inbox) {
		u.mailbox = imap.Inbox
	}
	var partial string
	if k := indexFold(rest, "/;PARTIAL="); k >= 0 {
		rest, partial = rest[:k], rest[k+len("/;PARTIAL="):]
	}
	section := ""
	if k := indexFold(rest, "/;SECTION="); k >= 0 {
		if section, err = url.PathUnescape(rest[k+len("/;SECTION="):]); err != nil {
			return u, errURL
		}
		rest = rest[:k]
	}
	n, err := parseNonZero(strings.TrimSuffix(rest, "/"))
	if err != nil {
		return u, err
	}
	u.uid = imap.UID(n)
	if partial != "" {
		if u.item.offset, u.item.count, err = parsePartial(partial); err != nil {
			return u, err
		}
		u.item.partial = true
	}
	u.item.kind = itemSection
	return u, parseSection(&u.item, section)
}

func parsePartial(s string) (offset, count int64, err error) {
	from, length, limited := strings.Cut(s, ".")
	offset, err = strconv.ParseInt(from, 10, 64)
	count = 1<<63 - 1
	if limited && err == nil {
		count, err = strconv.ParseInt(length, 10, 64)
	}
	if err != nil || offset < 0 || count <= 0 {
		return 0, 0, errURL
	}
	return offset, count, nil
}

// parseSection takes a section as it stands between brackets in FETCH.
func parseSection(it *fetchItem, section string) error {
	if strings.ContainsAny(section, "\r\n{") {
		return errURL
	}
	dec := wire.Decoder{MaxLine: maxLine, MaxCommand: maxLine}
	dec.Reset(bufio.NewReader(strings.NewReader(section + "\r\n")))
	if err := dec.Next(); err != nil {
		return err
	}
	sectionSpec(&dec, it, dec.Letters())
	dec.End()
	return dec.Err()
}

func parseNonZero(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, errURL
	}
	return uint32(n), nil
}

// indexFold is strings.Index without regard to the case of ASCII letters in s; sub is in
// upper case.
func indexFold(s, sub string) int {
	for i := 0; i+len(sub) <= len(s); i++ {
		if equalFold(s[i:i+len(sub)], sub) {
			return i
		}
	}
	return -1
}
