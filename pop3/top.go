package pop3

import (
	"bufio"
	"io"
)

// copyTop copies the header of the message in r, the blank line after it, and the first
// lines lines of the body (RFC 1939, 7, TOP).
func copyTop(w io.Writer, r io.Reader, lines int) error {
	br := bufio.NewReaderSize(r, 4<<10)
	header, start, blank := true, true, true
	for header || lines > 0 {
		part, err := br.ReadSlice('\n')
		if _, werr := w.Write(part); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		blank = (start || blank) && isBlank(part)
		if start = err == nil; !start {
			continue
		}
		if !header {
			lines--
		} else if blank {
			header = false
		}
		blank = true
	}
	return nil
}

// isBlank reports whether part of a line is nothing but its end.
func isBlank(part []byte) bool {
	for _, c := range part {
		if c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}
