package authres

import (
	"bytes"
	"io"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
)

// Claims reports whether the value of an Authentication-Results field says, or
// could be read as saying, that it was written by one of servIDs (RFC 8601, 5).
// Letter case and a final dot make no difference; a value that does not parse
// claims every name that it contains.
func Claims(value string, servIDs ...string) bool {
	h, err := Parse(value)
	for _, id := range servIDs {
		if h != nil && strings.EqualFold(strings.TrimSuffix(h.ServID, "."), strings.TrimSuffix(id, ".")) {
			return true
		}
		if err != nil && strings.Contains(strings.ToLower(value), strings.ToLower(id)) {
			return true
		}
	}
	return false
}

var fieldName = []byte("Authentication-Results")

// Strip returns a message's header without the Authentication-Results fields
// that claim one of servIDs, and how many those were. It returns header itself
// if there are none.
func Strip(header []byte, servIDs ...string) ([]byte, int) {
	h := msgheader.Parse(header)
	var out []byte
	removed, kept := 0, 0
	for i, f := range h.Fields {
		if !bytes.EqualFold(h.Name(i), fieldName) || !Claims(string(h.Value(i)), servIDs...) {
			continue
		}
		out = append(out, header[kept:f.Start]...)
		kept = f.End
		removed++
	}
	if removed == 0 {
		return header, 0
	}
	return append(out, header[kept:]...), removed
}

// StripReader returns a reader of the message that r reads, whose header has
// gone through Strip. It keeps the header, up to 1 MiB, in memory; reading a
// longer one ends with ErrHeaderTooLong.
func StripReader(r io.Reader, servIDs ...string) io.Reader {
	return &stripReader{r: r, ids: servIDs, collect: msgheader.Collector{Max: 1 << 20}}
}

// ErrHeaderTooLong is the error of a StripReader.
var ErrHeaderTooLong = msgheader.ErrTooLong

type stripReader struct {
	r       io.Reader
	ids     []string
	collect msgheader.Collector
	head    []byte // of the message, to be returned first
	ready   bool
	err     error // behind head
}

func (s *stripReader) Read(p []byte) (int, error) {
	if !s.ready {
		s.fill()
	}
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.r.Read(p)
}

// fill reads the header.
func (s *stripReader) fill() {
	s.ready = true
	buf := make([]byte, 8<<10)
	before := 0 // octets of the message in earlier chunks
	for {
		n, err := s.r.Read(buf)
		used, done, tooLong := s.collect.Write(buf[:n])
		switch {
		case tooLong != nil:
			s.err = tooLong
			return
		case done:
			header := s.collect.Header()
			kept, _ := Strip(header, s.ids...)
			s.head = append(s.head, kept...)
			// The empty line is what was used beyond the header.
			if before+used-len(header) == 1 {
				s.head = append(s.head, '\n')
			} else {
				s.head = append(s.head, "\r\n"...)
			}
			s.head = append(s.head, buf[used:n]...)
			s.err = err
			return
		case err != nil:
			kept, _ := Strip(s.collect.Header(), s.ids...)
			s.head, s.err = append(s.head, kept...), err
			return
		}
		before += n
	}
}
