package mtasts

import (
	"errors"
	"strings"
)

// Record is the content of a TXT record at _mta-sts (RFC 8461, 3.1).
type Record struct {
	ID         string      // id=: changes with the policy
	Extensions []Extension // unknown fields, in order
}

// Extension is a field that RFC 8461 does not know.
type Extension struct{ Name, Value string }

// ErrRecord is wrapped by what ParseRecord returns.
var ErrRecord = errors.New("mtasts: malformed record")

// IsRecord reports whether a TXT record's text begins with the version field;
// others at the name don't count (RFC 8461, 3.1).
func IsRecord(text string) bool {
	const version = "v=STSv1"
	rest, ok := strings.CutPrefix(text, version)
	return ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";")
}

// ParseRecord parses the text of a record. Of a field that appears twice the
// first counts.
func ParseRecord(text string) (*Record, error) {
	if !IsRecord(text) {
		return nil, ErrRecord
	}
	_, text, _ = strings.Cut(text, ";")
	r := &Record{}
	seen := make(map[string]bool)
	fields := strings.Split(text, ";")
	for i, f := range fields {
		f = strings.Trim(f, " \t")
		if f == "" && i == len(fields)-1 {
			break
		}
		name, value, ok := strings.Cut(f, "=")
		if !ok || !isFieldName(name) || !isFieldValue(value) {
			return nil, ErrRecord
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		if name != "id" {
			r.Extensions = append(r.Extensions, Extension{name, value})
			continue
		}
		if len(value) > 32 || strings.ContainsFunc(value, func(c rune) bool { return !isAlnum(byte(c)) }) {
			return nil, ErrRecord
		}
		r.ID = value
	}
	if r.ID == "" {
		return nil, ErrRecord
	}
	return r, nil
}

// String returns the record's text.
func (r *Record) String() string {
	var b strings.Builder
	b.WriteString("v=STSv1; id=" + r.ID + ";")
	for _, x := range r.Extensions {
		b.WriteString(" " + x.Name + "=" + x.Value + ";")
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// isFieldName is sts-ext-name.
func isFieldName(s string) bool {
	if s == "" || len(s) > 32 || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte("_-.", s[i]) < 0 {
			return false
		}
	}
	return true
}

// isFieldValue is sts-ext-value; its comment excludes "=" too.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '=' {
			return false
		}
	}
	return s != ""
}
