package mbox

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

// BenchmarkReader reads 16 MiB of mail, beside a scan of the same octets line by line and one
// that only looks for line ends.
func BenchmarkReader(b *testing.B) {
	var file bytes.Buffer
	w := NewWriter(&file, nil)
	text := "Subject: hello\nFrom: a@example.org\n\n" + strings.Repeat(strings.Repeat("The quick brown fox jumps over the lazy dog, and so on.\n", 20)+"A word From time to time.\n", 4) + "From now on\n"
	for file.Len() < 16<<20 {
		if err := w.Write("a@example.org", when, strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
	for _, d := range []Dialect{RD, CL2} {
		b.Run(d.String(), func(b *testing.B) {
			b.SetBytes(int64(file.Len()))
			b.ReportAllocs()
			for b.Loop() {
				for m, err := range NewReader(bytes.NewReader(file.Bytes()), &ReaderOptions{Dialect: d}).Messages() {
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, m.Body); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
	b.Run("lines", func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		for b.Loop() {
			in := bufio.NewReaderSize(bytes.NewReader(file.Bytes()), bufferSize)
			for {
				if _, err := in.ReadSlice('\n'); err != nil {
					break
				}
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		buf := make([]byte, bufferSize)
		for b.Loop() {
			in := bytes.NewReader(file.Bytes())
			for {
				n, err := in.Read(buf)
				if err != nil {
					break
				}
				_ = bytes.Count(buf[:n], []byte{'\n'})
			}
		}
	})
}
