// Package lineio reads the command lines of text protocols with a bound on their length,
// on top of a bufio.Reader that the caller goes on using for literals and bodies.
package lineio

import (
	"bufio"
	"bytes"
	"errors"
)

// ErrTooLong is returned for a line over the limit. The rest of the line has not been read:
// Skip does that.
var ErrTooLong = errors.New("line too long")

// ErrBareLF is returned, with the line, for a line that ended in LF alone.
var ErrBareLF = errors.New("line ends in a bare LF")

// Read appends one line to buf and returns it without its end. A line longer than limit
// octets, its end included, is ErrTooLong; it is never held in memory. A connection closed
// inside a line is io.EOF with nothing of the line: a half command is no command.
func Read(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	start := len(buf)
	for {
		part, err := r.ReadSlice('\n')
		if len(buf)-start+len(part) > limit {
			if err == nil {
				// The end was in sight: nothing is left to skip.
				return buf[:start], errTooLongEnded
			}
			return buf[:start], ErrTooLong
		}
		buf = append(buf, part...)
		switch {
		case err == nil:
			line := buf[:len(buf)-1]
			if len(line) > start && line[len(line)-1] == '\r' {
				return line[:len(line)-1], nil
			}
			return line, ErrBareLF
		case err != bufio.ErrBufferFull:
			return buf[:start], err
		}
	}
}

type tooLongEnded struct{}

func (tooLongEnded) Error() string        { return ErrTooLong.Error() }
func (tooLongEnded) Is(target error) bool { return target == ErrTooLong }

var errTooLongEnded error = tooLongEnded{}

// Skip reads the rest of a line that Read found too long, given Read's error, up to max
// octets. It returns ErrTooLong when the line is longer even than that.
func Skip(r *bufio.Reader, readErr error, max int) error {
	if readErr == errTooLongEnded {
		return nil
	}
	for n := 0; n <= max; {
		part, err := r.ReadSlice('\n')
		n += len(part)
		if err != bufio.ErrBufferFull {
			return err
		}
	}
	return ErrTooLong
}

// Fields splits a line at runs of spaces and tabs, like bytes.Fields for these two octets
// only: control characters and UTF-8 spaces stay where they are.
func Fields(line []byte) [][]byte {
	return bytes.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
}
