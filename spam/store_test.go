package spam_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/spamtest"
)

func TestMemory(t *testing.T) {
	spamtest.TestStore(t, func(*testing.T) func() spam.Store { return new(spam.Memory).Open })
}

func TestFile(t *testing.T) {
	spamtest.TestStore(t, func(t *testing.T) func() spam.Store {
		path := filepath.Join(t.TempDir(), "sub", "spam.db")
		return func() spam.Store {
			s, err := spam.OpenFile(path)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		}
	})
}
