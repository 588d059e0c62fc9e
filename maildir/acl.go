package maildir

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// dovecot-acl in a folder, as Dovecot's ACL plugin reads and writes it:
//
//	file = *( line LF )
//	line = [ "-" ] id SP letters [ SP ] [ ":" *( name SP ) ]     or the id, with its "-", quoted
//	id   = "owner" / "anyone" / "user=" name / "group=" name / "group-override=" name / ...
//
// Letters are those of RFC 4314. IMAP's identifiers are "owner", "anyone", a user's name, "$"
// and a group, "!" and a group that overrides. Lines that are something else (comments, other
// ids) are kept, in front.
const aclFile = "dovecot-acl"

var rightNames = map[string]imap.RightSet{
	"lookup": imap.RightLookup, "read": imap.RightRead, "write": imap.RightWrite, "write-seen": imap.RightSeen,
	"write-deleted": imap.RightDeleted, "insert": imap.RightInsert, "post": imap.RightPost, "expunge": imap.RightExpunge,
	"create": imap.RightCreate, "delete": imap.RightDeleteBox, "admin": imap.RightAdminister,
}

// idPrefixes are the kinds of identifiers by IMAP's prefix; a user has none.
var idPrefixes = []struct{ imap, file string }{{"$", "group="}, {"!", "group-override="}, {"", "user="}}

// parseACL returns the list and the lines that it does not understand.
func parseACL(text string) (acl imap.ACL, others string) {
	for line := range strings.Lines(text) {
		if e, ok := parseACLLine(strings.TrimSuffix(line, "\n")); ok {
			acl = append(acl, e)
		} else {
			others += strings.TrimSuffix(line, "\n") + "\n"
		}
	}
	return acl, others
}

func parseACLLine(line string) (e imap.ACLEntry, ok bool) {
	id, rest, ok := cutID(line)
	if !ok || line == "" || line[0] == '#' {
		return e, false
	}
	if id, ok = strings.CutPrefix(id, "-"); ok {
		e.Identifier = "-"
	}
	switch id {
	case imap.OwnerIdentifier, imap.AnyIdentifier:
		e.Identifier += id
	default:
		found := false
		for _, p := range idPrefixes {
			if name, ok := strings.CutPrefix(id, p.file); ok && name != "" && !found {
				e.Identifier += p.imap + name
				found = true
			}
		}
		if !found {
			return e, false
		}
	}
	letters, names, _ := strings.Cut(rest, ":")
	if e.Rights, ok = imap.ParseRights(strings.TrimSpace(letters)); !ok {
		return e, false
	}
	for name := range strings.FieldsSeq(names) {
		right, known := rightNames[name]
		if !known {
			return e, false
		}
		e.Rights |= right
	}
	return e, e.Rights != 0
}

// cutID takes the id from the beginning of a line, quoted or up to a space.
func cutID(line string) (id, rest string, ok bool) {
	if !strings.HasPrefix(line, `"`) {
		return strings.Cut(line, " ")
	}
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			rest, ok = strings.CutPrefix(line[i+1:], " ")
			return b.String(), rest, ok
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

func formatACL(acl imap.ACL, others string) []byte {
	b := []byte(others)
	for _, e := range acl {
		id, negative := strings.CutPrefix(e.Identifier, "-")
		if id != imap.OwnerIdentifier && id != imap.AnyIdentifier {
			for _, p := range idPrefixes {
				if name, ok := strings.CutPrefix(id, p.imap); ok {
					id = p.file + name
					break
				}
			}
		}
		if negative {
			id = "-" + id
		}
		if strings.ContainsAny(id, " \"\\") {
			id = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(id) + `"`
		}
		b = fmt.Appendf(b, "%s %s\n", id, e.Rights)
	}
	return b
}

// ACL implements imap.Rights.
func (s *Store) ACL(ctx context.Context, mailbox string) (imap.ACL, error) {
	path, err := s.folderOf(mailbox)
	var text string
	if err == nil {
		text, err = readSideFile(filepath.Join(path, aclFile))
	}
	if err != nil {
		return nil, fmt.Errorf("maildir: list of %q: %w", mailbox, err)
	}
	acl, _ := parseACL(text)
	return acl, nil
}

// SetRights implements imap.Rights. Identifiers with control characters are ErrLimit.
func (s *Store) SetRights(ctx context.Context, mailbox, identifier string, op imap.RightsOp) error {
	path, err := s.folderOf(mailbox)
	if err == nil && (identifier == "" || strings.ContainsAny(identifier, "\x00\r\n")) {
		err = imap.ErrLimit
	}
	if err == nil {
		err = replaceSideFile(ctx, filepath.Join(path, aclFile), func(text string) ([]byte, error) {
			acl, others := parseACL(text)
			acl, err := acl.With(identifier, op)
			return formatACL(acl, others), err
		})
	}
	if err != nil {
		return fmt.Errorf("maildir: set rights on %q: %w", mailbox, err)
	}
	return nil
}
