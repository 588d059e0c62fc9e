package maildrop_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/pop3"
	"github.com/mailblocks/mailblocks/pop3/maildrop"
	"github.com/mailblocks/mailblocks/pop3/pop3test"
)

func storage(t *testing.T, store imap.Store) pop3test.Storage {
	inbox := func() (imap.Mailbox, error) { return store.Open(t.Context(), imap.Inbox) }
	return pop3test.Storage{
		Deliver: func(text string) error {
			box, err := inbox()
			if err != nil {
				return err
			}
			defer box.Close()
			_, err = box.Append(t.Context(), []imap.NewMessage{{Body: strings.NewReader(text)}})
			return err
		},
		Open: func() (pop3.Maildrop, error) {
			box, err := inbox()
			if err != nil {
				return nil, err
			}
			return maildrop.Open(t.Context(), box)
		},
	}
}

func TestMaildrop(t *testing.T) {
	t.Run("memstore", func(t *testing.T) {
		pop3test.Test(t, func(t *testing.T) pop3test.Storage { return storage(t, memstore.New().Open()) })
	})
	t.Run("maildir", func(t *testing.T) {
		pop3test.Test(t, func(t *testing.T) pop3test.Storage {
			store, err := maildir.Open(t.TempDir(), nil)
			require.NoError(t, err)
			return storage(t, store)
		})
	})
}

func TestLocks(t *testing.T) {
	store := memstore.New().Open()
	var locks maildrop.Locks
	open := func(key string) (pop3.Maildrop, error) {
		box, err := store.Open(t.Context(), imap.Inbox)
		require.NoError(t, err)
		return locks.Open(t.Context(), key, box)
	}
	a, err := open("alice")
	require.NoError(t, err)
	_, err = open("alice")
	assert.ErrorIs(t, err, pop3.ErrInUse)
	b, err := open("bob")
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.NoError(t, a.Close())
	require.NoError(t, a.Close(), "a second Close frees nobody else's lock")
	a, err = open("alice")
	require.NoError(t, err)
	require.NoError(t, a.Close())
}

func TestUIDLIsDovecots(t *testing.T) {
	store := memstore.New().Open()
	s := storage(t, store)
	require.NoError(t, s.Deliver("x\r\n"))
	d, err := s.Open()
	require.NoError(t, err)
	defer d.Close()
	assert.Regexp(t, `^00000001[0-9A-F]{8}$`, d.Messages()[0].UID)
}

// Names that an earlier server gave to messages stay: the P records of a Dovecot UID list.
func TestUIDLOfAnEarlierServer(t *testing.T) {
	root := t.TempDir()
	store, err := maildir.Open(root, nil)
	require.NoError(t, err)
	for _, name := range []string{"1700000000.M1P1.h", "1700000001.M1P1.h", "1700000002.M1P1.h", "1700000003.M1P1.h"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, "cur", name+":2,S"), []byte("x\r\n"), 0o600))
	}
	list := "3 V7 N5 G781c253a9e34026b6657000083ecc375\n1 PUID1-17 :1700000000.M1P1.h\n2 P :1700000001.M1P1.h\n3 :1700000002.M1P1.h\n4 P\xff :1700000003.M1P1.h\n"
	require.NoError(t, os.WriteFile(filepath.Join(root, "dovecot-uidlist"), []byte(list), 0o600))
	d, err := storage(t, store).Open()
	require.NoError(t, err)
	defer d.Close()
	var names []string
	for _, m := range d.Messages() {
		names = append(names, m.UID)
	}
	assert.Equal(t, []string{"UID1-17", "1700000001.M1P1.h", "0000000300000007", "0000000400000007"}, names)
}
