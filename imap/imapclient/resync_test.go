package imapclient

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
)

// Whatever the server has, a client that resynchronises knows what is there.
func TestResync(t *testing.T) {
	for _, tc := range []struct {
		name    string
		without []string
	}{
		{"QRESYNC", nil}, {"CONDSTORE", []string{"QRESYNC"}}, {"nothing", []string{"QRESYNC", "CONDSTORE", "ESEARCH", "IMAP4rev2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := t.Context()
			addr, opt := server(t, func(s *imapserver.Server) {
				s.Advertise = func(_ *imapserver.Client, name string) bool {
					return imapserver.AdvertiseByDefault(nil, name) && !slices.Contains(tc.without, name)
				}
			})
			c := connect(t, addr, opt)
			other := connect(t, addr, opt)
			fillInbox(t, other, 20)
			var state LocalState
			flags := make(map[imap.UID]imap.Flags)
			sync := func() (told int) {
				r, err := c.Resync(ctx, "INBOX", state, nil, func(m *Message) error {
					told++
					flags[m.UID] = m.Flags
					return nil
				})
				require.NoError(t, err)
				require.False(t, r.Reset)
				for uid := range r.Vanished.All() {
					delete(flags, uid)
				}
				state = r.State
				var have imap.UIDSet
				for uid := range flags {
					have.Add(uid)
				}
				assert.Equal(t, state.UIDs.String(), have.String())
				return told
			}
			r, err := c.Resync(ctx, "INBOX", LocalState{}, nil, func(*Message) error { return errors.New("full") })
			assert.Nil(t, r)
			assert.EqualError(t, err, "full")

			check := func(known, changed int) {
				told := sync()
				assert.Len(t, flags, known)
				if tc.name == "nothing" {
					changed = known
				}
				assert.Equal(t, changed, told)
				n := 0
				for m, err := range other.Fetch(ctx, All(), FetchItems{Flags: true}) {
					require.NoError(t, err)
					assert.True(t, m.Flags.Equal(flags[m.UID]), "%d: %v %v", m.UID, m.Flags, flags[m.UID])
					n++
				}
				assert.Equal(t, known, n)
			}
			r, err = c.Resync(ctx, "INBOX", LocalState{}, &SelectOptions{ReadOnly: true}, func(m *Message) error { flags[m.UID] = m.Flags; return nil })
			require.NoError(t, err)
			assert.True(t, r.Reset)
			assert.True(t, r.Selected.ReadOnly)
			state = r.State
			check(20, 0)
			_, err = other.Store(ctx, UIDs(imap.NumSetOf[imap.UID](3, 9)), imap.FlagOp{Flags: imap.NewFlags(imap.FlagDeleted, "$x")}, nil)
			require.NoError(t, err)
			check(20, 2)
			require.NoError(t, other.Expunge(ctx))
			_, err = other.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader(mailText(21)), Flags: imap.NewFlags(imap.FlagFlagged)})
			require.NoError(t, err)
			require.NoError(t, other.Noop(ctx))
			check(19, 1)
			_, err = other.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader(mailText(22))})
			require.NoError(t, err)
			require.NoError(t, other.Noop(ctx))
			check(20, 1)
			state.UIDValidity++
			r, err = c.Resync(ctx, "INBOX", state, nil, func(*Message) error { return nil })
			require.NoError(t, err)
			assert.True(t, r.Reset)
		})
	}
}
