// Package reportfile gets reports out of what they arrive in: gzip and zip, and
// the attachments of a message. All of it comes from strangers, so sizes, ratios,
// depths and numbers are bounded.
package reportfile

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
)

// Limits of what is read.
const (
	MaxSize  = 32 << 20 // octets of one report, and of one message
	maxRatio = 200      // by which a file larger than freeSize may grow
	freeSize = 1 << 20
	maxFiles = 16
	maxParts = 64
	maxDepth = 8
)

// Errors.
var (
	ErrTooLarge = errors.New("report is too large")
	ErrRatio    = errors.New("compressed report grows beyond reason")
	ErrFormat   = errors.New("malformed file")
)

// Expand returns the files in data: those of a zip file, what a gzip file holds,
// or data itself.
func Expand(data []byte) ([][]byte, error) {
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		text, err := read(z, len(data))
		if err != nil {
			return nil, err
		}
		return [][]byte{text}, nil
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return expandZip(data)
	}
	if len(data) > MaxSize {
		return nil, ErrTooLarge
	}
	return [][]byte{data}, nil
}

func expandZip(data []byte) ([][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(z.File) > maxFiles {
		return nil, ErrTooLarge
	}
	var out [][]byte
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		text, err := read(r, len(data))
		_ = r.Close() // it was only read
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// read reads what packed octets expand to.
func read(r io.Reader, packed int) ([]byte, error) {
	limit := min(MaxSize, max(freeSize, packed*maxRatio))
	text, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case len(text) > limit && limit < MaxSize:
		return nil, ErrRatio
	case len(text) > limit:
		return nil, ErrTooLarge
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return text, nil
}

// Part is a part of a message that has no parts itself.
type Part struct {
	Type     string // media type, lower-case
	FileName string
	Data     []byte // decoded
}

// Message reads a message and returns its parts in order.
func Message(r io.Reader) ([]Part, error) {
	msg, err := mail.ReadMessage(io.LimitReader(r, MaxSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	w := walker{}
	err = w.walk(msg.Header.Get, msg.Body, 0)
	return w.parts, err
}

type walker struct{ parts []Part }

func (w *walker) walk(header func(string) string, body io.Reader, depth int) error {
	typ, params, err := mime.ParseMediaType(header("Content-Type"))
	if err != nil {
		typ, params = "text/plain", nil
	}
	if strings.HasPrefix(typ, "multipart/") {
		if depth == maxDepth {
			return ErrTooLarge
		}
		mr := multipart.NewReader(body, params["boundary"])
		for {
			p, err := mr.NextRawPart()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%w: %w", ErrFormat, err)
			}
			if err := w.walk(p.Header.Get, p, depth+1); err != nil {
				return err
			}
		}
	}
	if len(w.parts) == maxParts {
		return ErrTooLarge
	}
	switch strings.ToLower(strings.TrimSpace(header("Content-Transfer-Encoding"))) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	part := Part{Type: typ, FileName: params["name"], Data: data}
	if _, disp, err := mime.ParseMediaType(header("Content-Disposition")); err == nil && disp["filename"] != "" {
		part.FileName = disp["filename"]
	}
	w.parts = append(w.parts, part)
	return nil
}
