package imapserver

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/mailgen"
)

func TestLowerASCII(t *testing.T) {
	for n := range 40 {
		for c := range 256 {
			b := bytes.Repeat([]byte{byte(c), byte(c) ^ 0x20, 'x'}, n)[:n]
			want, ascii := bytes.Clone(b), true
			for i, c := range want {
				if 'A' <= c && c <= 'Z' {
					want[i] = c + 32
				}
				ascii = ascii && c < 0x80
			}
			require.Equal(t, ascii, lowerASCII(b))
			require.Equal(t, want, b)
		}
	}
}

// A search that looks into many bodies at once finds in each what it would find there alone.
func TestSearchManyBodies(t *testing.T) {
	ts := newServer(t, nil)
	var msgs []imap.NewMessage
	const n = 3*bodyChunk + 7
	for i := range n {
		msgs = append(msgs, imap.NewMessage{Body: bytes.NewReader(mailgen.Message(i))})
	}
	ts.fill("ann", imap.Inbox, msgs...)
	c := rawSession(t, ts.addr)
	c.do("SELECT INBOX")
	for _, keys := range []string{"TEXT garden", "BODY \"=\" NOT TEXT olga", "OR TEXT \xc3\xa9x BODY invoice", "FUZZY TEXT kitchn", "FROM olga OR SUBJECT garden LARGER 20000"} {
		command := "SEARCH " + keys
		if strings.Contains(keys, "\xc3") {
			command = "SEARCH CHARSET UTF-8 " + strings.Replace(keys, "\xc3\xa9x", "{3+}\r\n\xc3\xa9x", 1)
		}
		got := strings.Fields(strings.TrimPrefix(c.do(command)[0], "SEARCH"))
		var want []string
		for i := 1; i <= n; i++ {
			one := strings.Replace(command, keys[:4], fmt.Sprintf("%d %s", i, keys[:4]), 1)
			if strings.HasPrefix(keys, "OR") {
				one = strings.Replace(command, "OR ", fmt.Sprintf("%d OR ", i), 1)
			}
			if strings.HasSuffix(c.do(one)[0], fmt.Sprint(" ", i)) {
				want = append(want, fmt.Sprint(i))
			}
		}
		assert.Equal(t, want, got, keys)
	}
}
