package smtp

import (
	"bytes"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Parameters of MAIL and RCPT (RFC 5321, 4.1.2):
//
//	Parameters  = SP esmtp-param *( SP esmtp-param )
//	esmtp-param = esmtp-keyword [ "=" esmtp-value ]

const (
	maxEnvelopeID = 100 // RFC 3461, 5.4
	maxOrcpt      = 500
)

// paramReader knows which extensions are on.
type paramReader struct {
	ext   Extensions
	other func(verb, key, value string) bool
}

var (
	errParamSyntax  = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Text: "parameter syntax"}
	errParamUnknown = &Reply{Code: 555, Enhanced: EnhancedCode{5, 5, 4}, Text: "parameter not recognized"}
	errParamTwice   = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Text: "parameter given twice"}
)

// nextParam takes the first parameter off b, which begins with the space before it. The key
// is empty at the end.
func nextParam(b []byte) (key, value []byte, hasValue bool, rest []byte, err error) {
	n := 0
	for n < len(b) && b[n] == ' ' {
		n++
	}
	if n == len(b) {
		return nil, nil, false, nil, nil
	}
	if n == 0 {
		return nil, nil, false, nil, errParamSyntax
	}
	b = b[n:]
	end := bytes.IndexByte(b, ' ')
	if end < 0 {
		end = len(b)
	}
	p, rest := b[:end], b[end:]
	if eq := bytes.IndexByte(p, '='); eq >= 0 {
		key, value, hasValue = p[:eq], p[eq+1:], true
		if len(value) == 0 || !utf8.Valid(value) {
			return nil, nil, false, nil, errParamSyntax
		}
		for _, c := range value {
			// "=" is not in esmtp-value, but AUTH and others are better judged by their own rules.
			if c <= ' ' || c == 0x7f {
				return nil, nil, false, nil, errParamSyntax
			}
		}
	} else {
		key = p
	}
	if len(key) == 0 || !isAlnum(key[0]) {
		return nil, nil, false, nil, errParamSyntax
	}
	for _, c := range key {
		if !isAlnum(c) && c != '-' {
			return nil, nil, false, nil, errParamSyntax
		}
	}
	return key, value, hasValue, rest, nil
}

// mail reads the parameters of MAIL into p, which is zero.
func (r paramReader) mail(b []byte, p *MailParams) *Reply {
	var seen uint32
	for {
		key, value, has, rest, err := nextParam(b)
		if err != nil {
			return errParamSyntax
		}
		if key == nil {
			break
		}
		b = rest
		var bit uint32
		ok := true
		switch {
		case eqFold(key, "SIZE") && r.ext&ExtSize != 0:
			bit = 1
			p.Size, ok = parseSize(value)
		case eqFold(key, "BODY") && r.ext&(Ext8BitMIME|ExtBinaryMIME) != 0:
			bit = 2
			switch {
			case eqFold(value, "7BIT"):
				p.Body = Body7Bit
			case eqFold(value, "8BITMIME") && r.ext&Ext8BitMIME != 0:
				p.Body = Body8Bit
			case eqFold(value, "BINARYMIME") && r.ext&ExtBinaryMIME != 0:
				p.Body = BodyBinary
			default:
				ok = false
			}
		case eqFold(key, "SMTPUTF8") && r.ext&ExtSMTPUTF8 != 0:
			bit, ok = 4, !has
			p.UTF8 = true
		case eqFold(key, "RET") && r.ext&ExtDSN != 0:
			bit = 8
			switch {
			case eqFold(value, "FULL"):
				p.Return = ReturnFull
			case eqFold(value, "HDRS"):
				p.Return = ReturnHeaders
			default:
				ok = false
			}
		case eqFold(key, "ENVID") && r.ext&ExtDSN != 0:
			bit = 16
			p.EnvelopeID, ok = parseEnvelopeID(value)
		case eqFold(key, "AUTH"):
			bit = 32
			p.Auth, ok = parseAuthParam(value)
		case eqFold(key, "REQUIRETLS") && r.ext&ExtRequireTLS != 0:
			bit, ok = 64, !has
			p.RequireTLS = true
		case eqFold(key, "HOLDFOR") && r.ext&ExtFutureRelease != 0:
			bit = 128
			var n uint64
			n, ok = parseDigits(value, 9)
			p.HoldFor = time.Duration(n) * time.Second
		case eqFold(key, "HOLDUNTIL") && r.ext&ExtFutureRelease != 0:
			bit = 128
			p.HoldUntil, ok = parseTime(value)
		case eqFold(key, "BY") && r.ext&ExtDeliverBy != 0:
			bit = 256
			p.DeliverBy, ok = parseDeliverBy(value)
		case eqFold(key, "MT-PRIORITY") && r.ext&ExtPriority != 0:
			bit = 512
			p.Priority, ok = parsePriority(value)
		case eqFold(key, "SOLICIT") && r.ext&ExtNoSoliciting != 0:
			bit = 1024
			p.Solicit, ok = string(value), validSolicit(value)
		default:
			o, reply := r.private("MAIL", key, value, p.Other)
			if reply != nil {
				return reply
			}
			p.Other = append(p.Other, o)
		}
		if !ok {
			return errParamSyntax
		}
		if seen&bit != 0 {
			return errParamTwice
		}
		seen |= bit
	}
	return nil
}

// rcpt reads the parameters of RCPT into p, which is zero.
func (r paramReader) rcpt(b []byte, p *RcptParams) *Reply {
	var seen uint32
	for {
		key, value, _, rest, err := nextParam(b)
		if err != nil {
			return errParamSyntax
		}
		if key == nil {
			break
		}
		b = rest
		var bit uint32
		ok := true
		switch {
		case eqFold(key, "NOTIFY") && r.ext&ExtDSN != 0:
			bit = 1
			p.Notify, ok = parseNotify(value)
		case eqFold(key, "ORCPT") && r.ext&ExtDSN != 0:
			bit = 2
			p.OriginalType, p.Original, ok = parseOrcpt(value)
		case eqFold(key, "RRVS") && r.ext&ExtValidSince != 0:
			bit = 4
			// ";C" and ";R" tell relays what to do about a next hop without RRVS.
			value, _, _ = bytes.Cut(value, []byte{';'})
			p.ValidSince, ok = parseTime(value)
		default:
			o, reply := r.private("RCPT", key, value, p.Other)
			if reply != nil {
				return reply
			}
			p.Other = append(p.Other, o)
		}
		if !ok {
			return errParamSyntax
		}
		if seen&bit != 0 {
			return errParamTwice
		}
		seen |= bit
	}
	return nil
}

// private makes a Param of one that only the embedder knows.
func (r paramReader) private(verb string, key, value []byte, have []Param) (Param, *Reply) {
	if r.other == nil {
		return Param{}, errParamUnknown
	}
	p := Param{Key: string(bytes.ToUpper(key)), Value: string(value)}
	for _, h := range have {
		if h.Key == p.Key {
			return Param{}, errParamTwice
		}
	}
	if !r.other(verb, p.Key, p.Value) {
		return Param{}, errParamUnknown
	}
	return p, nil
}

// parseSize reads a SIZE value. What does not fit in 63 bits is as good as infinite, and so
// refused as too big rather than as bad syntax.
func parseSize(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 20 {
		return 0, false
	}
	var n uint64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(min(n, math.MaxInt64)), true
}

// parseDigits reads a number of one to max digits.
func parseDigits(v []byte, max int) (uint64, bool) {
	if len(v) == 0 || len(v) > max {
		return 0, false
	}
	var n uint64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

func parseEnvelopeID(v []byte) (string, bool) {
	if len(v) == 0 || len(v) > maxEnvelopeID {
		return "", false
	}
	s, err := decodeXtext(v, false)
	return s, err == nil && s != ""
}

func parseAuthParam(v []byte) (string, bool) {
	if len(v) == 0 || len(v) > maxOrcpt {
		return "", false
	}
	if string(v) == "<>" {
		return "<>", true
	}
	s, err := decodeXtext(v, true)
	if err != nil {
		return "", false
	}
	if s == "<>" {
		return s, true
	}
	return s, s != "" && checkMailbox(s) == nil
}

func parseNotify(v []byte) (n Notify, ok bool) {
	for more := true; more; {
		var word []byte
		word, v, more = bytes.Cut(v, []byte{','})
		switch {
		case eqFold(word, "NEVER"):
			n |= NotifyNever
		case eqFold(word, "SUCCESS"):
			n |= NotifySuccess
		case eqFold(word, "FAILURE"):
			n |= NotifyFailure
		case eqFold(word, "DELAY"):
			n |= NotifyDelay
		default:
			return 0, false
		}
	}
	return n, n&NotifyNever == 0 || n == NotifyNever
}

func parseOrcpt(v []byte) (typ, addr string, ok bool) {
	t, a, found := bytes.Cut(v, []byte{';'})
	if !found || len(t) == 0 || len(a) == 0 || len(v) > maxOrcpt {
		return "", "", false
	}
	for _, c := range t {
		if !atext[c] || c >= 0x80 {
			return "", "", false
		}
	}
	var err error
	switch {
	case eqFold(t, "RFC822"):
		typ = "rfc822"
		if addr, err = decodeXtext(a, true); !isASCII(addr) {
			typ = "utf-8" // as Postfix writes it, though RFC 6533, 3, has this type for it
		}
	case eqFold(t, "UTF-8"):
		typ = "utf-8"
		addr, err = decodeUTF8Xtext(a)
	default:
		typ = string(t)
		addr, err = decodeXtext(a, false)
	}
	return typ, addr, err == nil && addr != ""
}

func parseTime(v []byte) (time.Time, bool) {
	if len(v) > 40 {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, string(bytes.ToUpper(v)))
	if err != nil || t.IsZero() {
		return time.Time{}, false
	}
	return t.UTC(), true
}

func parseDeliverBy(v []byte) (d DeliverBy, ok bool) {
	num, mode, found := bytes.Cut(v, []byte{';'})
	if !found || len(num) == 0 || len(mode) == 0 || len(mode) > 2 {
		return d, false
	}
	neg := num[0] == '-'
	if neg || num[0] == '+' {
		num = num[1:]
	}
	n, ok := parseDigits(num, 9)
	if !ok {
		return d, false
	}
	d.Seconds = int64(n)
	if neg {
		d.Seconds = -d.Seconds
	}
	switch mode[0] {
	case 'R', 'r':
		d.Mode = 'R'
	case 'N', 'n':
		d.Mode = 'N'
	default:
		return d, false
	}
	if len(mode) == 2 {
		if mode[1]|0x20 != 't' {
			return d, false
		}
		d.Trace = true
	}
	// RFC 2852, 4: "R" asks for a time still to come.
	return d, d.Mode == 'N' || d.Seconds > 0
}

func parsePriority(v []byte) (int, bool) {
	if len(v) == 0 || len(v) > 2 || v[0] == '+' {
		return 0, false
	}
	n, err := strconv.Atoi(string(v))
	return n, err == nil && -9 <= n && n <= 9
}
