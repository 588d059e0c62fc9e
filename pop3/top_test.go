package pop3

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCopyTop(t *testing.T) {
	long := strings.Repeat("h", 10000)
	for _, tc := range []struct {
		in    string
		lines int
		want  string
	}{
		{"A: b\r\n\r\nx\r\ny\r\n", 0, "A: b\r\n\r\n"},
		{"A: b\r\n\r\nx\r\ny\r\n", 1, "A: b\r\n\r\nx\r\n"},
		{"A: b\r\n\r\nx\r\ny", 2, "A: b\r\n\r\nx\r\ny"},
		{"\r\nx\r\n", 0, "\r\n"},
		{"A: " + long + "\r\n\r\n" + long + "\r\nz\r\n", 1, "A: " + long + "\r\n\r\n" + long + "\r\n"},
		{"A: b\n\nx\ny\n", 1, "A: b\n\nx\n"},
		{"A: " + strings.Repeat("h", 4093) + "\r\n\r\nx\r\n", 0, "A: " + strings.Repeat("h", 4093) + "\r\n\r\n"},
		{"A: " + strings.Repeat("h", 4092) + "\r\n\r\nx\r\n", 0, "A: " + strings.Repeat("h", 4092) + "\r\n\r\n"},
		{"", 3, ""},
	} {
		var b bytes.Buffer
		require.NoError(t, copyTop(&b, strings.NewReader(tc.in), tc.lines))
		assert.Equal(t, tc.want, b.String(), "%.20q %d", tc.in, tc.lines)
	}
}
