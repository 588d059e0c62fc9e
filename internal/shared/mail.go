package shared

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Mail returns n real messages of a corpus of ../shared/corpora/spam, with CRLF line ends and
// a line end at the end, no NUL, and a first line "X-Test: <number from 0>" by which each is
// found again. It skips the test where the corpora are not there.
func Mail(t T, corpus string, n int) []string {
	t.Helper()
	mails, err := readMail(Path(t, "corpora", "spam", corpus+".tar.gz"), n)
	if err != nil {
		t.Fatalf("shared: %s: %v", corpus, err)
	}
	return mails
}

func readMail(path string, n int) (mails []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	ends := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\x00", "?")
	for tr := tar.NewReader(z); len(mails) < n; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("it has %d messages, want %d", len(mails), n)
		}
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(h.Name, ".eml") {
			continue
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		text := strings.TrimRight(ends.Replace(string(b)), "\n") + "\n"
		mails = append(mails, fmt.Sprintf("X-Test: %d\r\n", len(mails))+strings.ReplaceAll(text, "\n", "\r\n"))
	}
	return mails, nil
}
