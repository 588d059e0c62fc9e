package spam

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"",
		"Subject: =?utf-8?b?4pyT?= =?x?q?=41_?=\r\nFrom: \"A\" <a@example.org>\r\n\r\ntext http://a.test/x",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\nPGI+aGk8L2I+\n--b--\n",
		"Content-Type: text/html\n\n<div style='display:none'>a</div><a href=http://1.2.3.4>b</a><!-- x --><script>y</script>",
		"Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nx",
		"From: a\nContent-Type: text/plain; charset=utf-7\nContent-Transfer-Encoding: quoted-printable\n\n=41=\n=zz=",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(bytes.NewReader(b), Limits{Text: 4096, Parts: 10, Depth: 3, Fields: 20, Tokens: 500, Links: 10})
		if err != nil {
			t.Fatal(err)
		}
		if m.Size != int64(len(b)) {
			t.Errorf("size %d of %d", m.Size, len(b))
		}
		if len(m.Parts) > 11 || len(m.Links) > 10 || len(m.Fields) > 20 {
			t.Errorf("limits: %d parts, %d links, %d fields", len(m.Parts), len(m.Links), len(m.Fields))
		}
		for _, fd := range m.Fields {
			if !utf8.ValidString(fd.Value) {
				t.Errorf("%q is not UTF-8", fd.Value)
			}
		}
		tok := m.tokens()
		if len(tok.words) > 500 || len(tok.grams) > headBytes {
			t.Errorf("%d words, %d strings", len(tok.words), len(tok.grams))
		}
		var again features
		if _, ok := unpackSample(packSample(tok, Spam, &origin{}), &again); !ok || len(again.words) != len(tok.words) || len(again.grams) != len(tok.grams) {
			t.Error("a sample does not come back")
		}
	})
}

func FuzzFile(f *testing.F) {
	whole := appendFrame(appendFrame(fileHeader(1), nil), encodeRecords(7, map[string]*pendingModel{
		"": {cells: cellSums{list: []Cell{{Index: 3, Ham: 1}, {Index: 9, Weight: 1}}}, slots: map[uint32][]byte{1: []byte("x")}},
	}, map[seenKey]seenMark{{1}: {Spam, 5}}))
	f.Add(whole, []byte("C\x00\x01\x03\x01\x02"))
	f.Add(whole[:30], []byte("K\x00\x01\x03abc"))
	f.Fuzz(func(t *testing.T, file, payload []byte) {
		path := filepath.Join(t.TempDir(), "db")
		// Once as it is, and once with a right checksum around it.
		for _, b := range [][]byte{file, appendFrame(appendFrame(fileHeader(1), nil), append(make([]byte, 8), payload...))} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := OpenFile(path)
			if err != nil {
				continue
			}
			if c, err := NewClassifier(t.Context(), s, nil); err == nil {
				if _, err := c.Score(t.Context(), "", parseBytes(payload, 0, Limits{}.withDefaults())); err != nil {
					t.Error(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
