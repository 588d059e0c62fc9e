package imapserver

import (
	"strconv"
	"strings"
	"time"
)

// parseDate takes a Date field's value (RFC 5322, 3.3), forgiving as RFC 5256, 2.2 asks: a
// bad zone is UTC, a bad time is midnight. It fails without a day.
func parseDate(s string) (time.Time, bool) {
	words := strings.FieldsFunc(withoutComments(s), func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
	if len(words) > 0 && (words[0][0] < '0' || words[0][0] > '9') {
		words = words[1:] // the day of the week
	}
	if len(words) < 3 {
		return time.Time{}, false
	}
	day, errDay := strconv.Atoi(words[0])
	month := monthOf(words[1])
	year, errYear := strconv.Atoi(words[2])
	if errDay != nil || errYear != nil || month == 0 || year < 0 || year > 9999 {
		return time.Time{}, false
	}
	switch { // RFC 5322, 4.3
	case len(words[2]) <= 2 && year < 50:
		year += 2000
	case len(words[2]) <= 3:
		year += 1900
	}
	hour, minute, second, offset := 0, 0, 0, 0
	if len(words) > 3 {
		hour, minute, second = clock(words[3])
	}
	if len(words) > 4 {
		offset = zoneOffset(words[4])
	}
	t := time.Date(year, month, day, hour, minute, second, 0, time.FixedZone("", offset))
	return t, day >= 1 && t.Day() == day || second == 60
}

func monthOf(s string) time.Month {
	if len(s) < 3 {
		return 0
	}
	for m := time.January; m <= time.December; m++ {
		if strings.EqualFold(s[:3], m.String()[:3]) {
			return m
		}
	}
	return 0
}

// clock takes a time of day; one that is none is midnight.
func clock(s string) (hour, minute, second int) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, 0, 0
	}
	var n [3]int
	for i, limit := range []int{23, 59, 60}[:len(parts)] {
		v, err := strconv.Atoi(parts[i])
		if err != nil || v < 0 || v > limit {
			return 0, 0, 0
		}
		n[i] = v
	}
	return n[0], n[1], n[2]
}

var zoneNames = map[string]int{"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}

// zoneOffset returns seconds east of UTC, zero for a zone that nobody knows.
func zoneOffset(s string) int {
	if hours, is := zoneNames[strings.ToUpper(s)]; is {
		return hours * 3600
	}
	if len(s) != 5 || s[0] != '+' && s[0] != '-' {
		return 0
	}
	n, err := strconv.ParseUint(s[1:], 10, 16)
	if err != nil || n/100 > 23 || n%100 > 59 {
		return 0
	}
	offset := int(n/100*60+n%100) * 60
	if s[0] == '-' {
		return -offset
	}
	return offset
}

// withoutComments makes a blank of each comment (RFC 5322, 3.2.2).
func withoutComments(s string) string {
	if strings.IndexByte(s, '(') < 0 {
		return s
	}
	var b strings.Builder
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && depth > 0:
			i++
		case c == '(':
			depth++
			b.WriteByte(' ')
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String()
}
