package reportfile

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func gzipped(t *testing.T, data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(data)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

func TestExpand(t *testing.T) {
	files, err := Expand([]byte("<x/>"))
	require.NoError(t, err)
	assert.Equal(t, [][]byte{[]byte("<x/>")}, files)
	files, err = Expand(gzipped(t, []byte("<x/>")))
	require.NoError(t, err)
	assert.Equal(t, [][]byte{[]byte("<x/>")}, files)

	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"a.xml", "b.xml"} {
		w, err := z.Create(name)
		require.NoError(t, err)
		_, err = w.Write([]byte(name))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	files, err = Expand(b.Bytes())
	require.NoError(t, err)
	assert.Equal(t, [][]byte{[]byte("a.xml"), []byte("b.xml")}, files)

	_, err = Expand(gzipped(t, make([]byte, 8<<20)))
	assert.ErrorIs(t, err, ErrRatio)
	_, err = Expand(gzipped(t, make([]byte, MaxSize+1)))
	assert.Error(t, err)
	_, err = Expand([]byte("PK\x03\x04rubbish"))
	assert.ErrorIs(t, err, ErrFormat)
	_, err = Expand([]byte("\x1f\x8brubbish"))
	assert.ErrorIs(t, err, ErrFormat)
}

func TestMessage(t *testing.T) {
	parts, err := Message(strings.NewReader("Content-Type: multipart/mixed; boundary=x\r\n\r\n" +
		"--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x\r\nContent-Type: application/gzip; name=a.gz\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\naGVs\r\nbG8=\r\n--x--\r\n"))
	require.NoError(t, err)
	assert.Equal(t, []Part{{"text/plain", "", []byte("hi")}, {"application/gzip", "a.gz", []byte("hello")}}, parts)
	var deep strings.Builder
	for i := range 20 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=x%dx\r\n\r\n--x%dx\r\n", i, i)
	}
	_, err = Message(strings.NewReader(deep.String()))
	assert.ErrorIs(t, err, ErrTooLarge)
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhi\r\n--x--\r\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		parts, err := Message(bytes.NewReader(msg))
		if err == nil {
			assert.LessOrEqual(t, len(parts), maxParts)
		}
		_, _ = Expand(msg)
	})
}
