package lineio

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, tc := range []struct {
		in, line string
		err      error
	}{
		{"NOOP\r\n", "NOOP", nil},
		{"\r\n", "", nil},
		{"NOOP\n", "NOOP", ErrBareLF},
		{"\n", "", ErrBareLF},
		{"a\rb\r\n", "a\rb", nil},
		{"NOOP", "", io.EOF},
		{long + "\r\n", "", ErrTooLong},
		{long, "", ErrTooLong},
		{long[:98] + "\r\n", long[:98], nil},
		{long[:99] + "\r\n", "", ErrTooLong},
	} {
		r := bufio.NewReaderSize(strings.NewReader(tc.in+"NEXT\r\n"), 64)
		if tc.err == io.EOF {
			r = bufio.NewReaderSize(strings.NewReader(tc.in), 64)
		}
		line, err := Read(r, nil, 100)
		require.ErrorIs(t, err, tc.err, "%.20q", tc.in)
		assert.Equal(t, tc.line, string(line), "%.20q", tc.in)
	}
}

func TestSkipFindsTheNextLine(t *testing.T) {
	for _, n := range []int{60, 64, 100, 101, 1000, 5000} {
		r := bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", n)+"\r\nNEXT\r\n"), 64)
		_, err := Read(r, nil, 50)
		require.ErrorIs(t, err, ErrTooLong)
		require.NoError(t, Skip(r, err, 10000))
		line, err := Read(r, nil, 50)
		require.NoError(t, err)
		assert.Equal(t, "NEXT", string(line))
	}
}

func TestSkipGivesUp(t *testing.T) {
	r := bufio.NewReaderSize(strings.NewReader(strings.Repeat("x", 1<<20)), 64)
	_, err := Read(r, nil, 50)
	assert.ErrorIs(t, Skip(r, err, 1000), ErrTooLong)
}
