package mutf7

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKnown(t *testing.T) {
	for plain, coded := range map[string]string{
		"INBOX":              "INBOX",
		"~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-", // RFC 3501, 5.1.3
		"a&b":                "a&-b",
		"Entwürfe":           "Entw&APw-rfe",
		"a\U0001F600":        "a&2D3eAA-",
		"":                   "",
	} {
		assert.Equal(t, coded, Encode(plain, ""))
		got, err := Decode(coded)
		require.NoError(t, err, coded)
		assert.Equal(t, plain, got)
	}
	assert.Equal(t, "St&AC4- X", Encode("St. X", "."))
	got, err := Decode("St&AC4- X")
	require.NoError(t, err)
	assert.Equal(t, "St. X", got)
}

func TestDecodeRefuses(t *testing.T) {
	for _, s := range []string{"&", "&AB", "&ABC", "&A-", "&2D0-", "&3gA-", "ä", "a\x00b", "&APw", "&U\n,BT-", "&AP=-"} {
		_, err := Decode(s)
		assert.ErrorIs(t, err, ErrInvalid, "%q", s)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("a/ü&台", "&ZeVnLIqe-")
	f.Fuzz(func(t *testing.T, plain, coded string) {
		if utf8.ValidString(plain) {
			got, err := Decode(Encode(plain, "./"))
			require.NoError(t, err)
			require.Equal(t, plain, got)
		}
		if s, err := Decode(coded); err == nil {
			again, err := Decode(Encode(s, ""))
			require.NoError(t, err)
			require.Equal(t, s, again)
		}
	})
}
