package mbox

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxLine is the longest separator that is taken for one, with its line end.
const maxLine = 1024

var errSender = errors.New("mbox: sender can not stand in a separator")

// ParseSeparator reads a line "From sender date", with or without its line end, and tells
// whether it is one: text that happens to begin with "From " is not. The sender may be empty.
// A date without a zone, or with the name of an unknown one, is taken to be in loc; nil is UTC.
func ParseSeparator(line string, loc *time.Location) (sender string, date time.Time, ok bool) {
	if loc == nil {
		loc = time.UTC
	}
	rest, ok := strings.CutPrefix(line, "From ")
	if !ok || len(line) > maxLine {
		return "", time.Time{}, false
	}
	rest = strings.TrimSuffix(rest, "\n")
	rest = strings.TrimSuffix(rest, "\r")
	if strings.ContainsAny(rest, "\r\n\x00") {
		return "", time.Time{}, false
	}
	rest = strings.TrimLeft(rest, " \t")
	end := senderEnd(rest)
	if date, ok = parseDate(rest[end:], loc); ok {
		return rest[:end], date, true
	}
	date, ok = parseDate(rest, loc)
	return "", date, ok
}

// senderEnd returns where the first word of s ends. A quoted string may hold blanks.
func senderEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted && i+1 < len(s):
			i++
		case c == '"' && (quoted || i == 0):
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return i
		}
	}
	if quoted { // a quote that never ends was no quote
		if i := strings.IndexAny(s, " \t"); i >= 0 {
			return i
		}
	}
	return len(s)
}

// formatSeparator returns the line for sender and date. Sender must come back from it.
func formatSeparator(sender string, date time.Time, loc *time.Location, d Dialect) (string, error) {
	if loc == nil {
		loc = time.UTC
	}
	if sender == "" {
		sender = "MAILER-DAEMON"
	}
	gap := " "
	if d == Dovecot {
		gap = "  "
	}
	line := "From " + sender + gap + date.In(loc).Format(time.ANSIC) + "\n"
	if got, _, ok := ParseSeparator(line, loc); !ok || got != sender {
		return "", errSender
	}
	return line, nil
}

// parseDate reads what follows the sender; the whole of s must be a date.
func parseDate(s string, loc *time.Location) (time.Time, bool) {
	var array [12]string
	f := array[:0]
	for w := range strings.FieldsSeq(s) {
		if len(f) == cap(f) {
			return time.Time{}, false
		}
		f = append(f, w)
	}
	if len(f) >= 3 && f[len(f)-3] == "remote" && f[len(f)-2] == "from" {
		f = f[:len(f)-3]
	}
	if len(f) < 5 || !isDayName(strings.TrimSuffix(f[0], ",")) {
		return time.Time{}, false
	}
	f = f[1:]
	var month time.Month
	var day, year, hour, minute, sec int
	var zone []string
	ok := true
	clock := ""
	if month = monthOf(f[0]); month != 0 { // Nov  9 22:33:52 [zone] 2002 [zone]
		day, ok = number(f[1], 1, 2)
		clock, f = f[2], f[3:]
		for len(f) > 0 && len(zone) < 2 && !isYear(f[0]) && isZone(f[0]) {
			zone, f = append(zone, f[0]), f[1:]
		}
		if len(f) == 0 || !isYear(f[0]) {
			return time.Time{}, false
		}
		year, _ = number(f[0], 4, 4)
		f = f[1:]
	} else { // 9 Nov 2002 22:33:52 [zone]
		month = monthOf(f[1])
		if month == 0 || !isYear(f[2]) || len(f) < 4 {
			return time.Time{}, false
		}
		day, ok = number(f[0], 1, 2)
		year, _ = number(f[2], 4, 4)
		clock, f = f[3], f[4:]
	}
	for len(f) > 0 && len(zone) < 2 && isZone(f[0]) {
		zone, f = append(zone, f[0]), f[1:]
	}
	if !ok || len(f) > 0 {
		return time.Time{}, false
	}
	if hour, minute, sec, ok = parseClock(clock); !ok {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, hour, minute, sec, 0, zoneOf(zone, loc))
	if day < 1 || day > daysIn(year, month) {
		return time.Time{}, false
	}
	return t, true
}

func daysIn(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

func parseClock(s string) (hour, minute, sec int, ok bool) {
	h, rest, ok1 := strings.Cut(s, ":")
	m, rest, seconds := strings.Cut(rest, ":")
	hour, ok2 := number(h, 1, 2)
	minute, ok3 := number(m, 2, 2)
	ok4 := true
	if seconds {
		sec, ok4 = number(rest, 2, 2)
	}
	return hour, minute, sec, ok1 && ok2 && ok3 && ok4 && hour < 24 && minute < 60 && sec <= 60
}

// number reads digits alone, of which there are low to high.
func number(s string, low, high int) (int, bool) {
	if len(s) < low || len(s) > high {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

func isYear(s string) bool {
	n, ok := number(s, 4, 4)
	return ok && n >= 1970
}

func isDayName(s string) bool {
	switch s {
	case "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun":
		return true
	}
	return false
}

func monthOf(s string) time.Month {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	if len(s) != 3 {
		return 0
	}
	for i := 0; i < len(names); i += 3 {
		if names[i:i+3] == s {
			return time.Month(i/3 + 1)
		}
	}
	return 0
}

// isZone tells whether s is +hhmm, -hhmm, or a name of one to five capitals.
func isZone(s string) bool {
	if s == "" {
		return false
	}
	if s[0] == '+' || s[0] == '-' {
		_, ok := number(s[1:], 4, 4)
		return ok
	}
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return len(s) <= 5
}

// zoneHours are the names whose meaning is fixed (RFC 5322, 4.3).
var zoneHours = map[string]int{
	"UT": 0, "GMT": 0, "UTC": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}

func zoneOf(zone []string, loc *time.Location) *time.Location {
	for _, z := range zone {
		if hours, ok := zoneHours[z]; ok {
			if hours == 0 {
				return time.UTC
			}
			return time.FixedZone(z, hours*3600)
		}
		if z[0] == '+' || z[0] == '-' {
			n, _ := number(z[1:], 4, 4)
			offset := n/100*3600 + n%100*60
			if z[0] == '-' {
				offset = -offset
			}
			return time.FixedZone("", offset)
		}
	}
	return loc
}
