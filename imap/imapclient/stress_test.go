package imapclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// Many goroutines share a client, contexts end at any moment, loops end early and use the
// client meanwhile: every call ends, and the session is in step to the last.
func TestManyAtOnce(t *testing.T) {
	addr, opt := server(t, nil)
	for _, compressed := range []bool{false, true} {
		ctx := t.Context()
		c := connect(t, addr, opt)
		if compressed {
			require.NoError(t, c.Compress(ctx))
		} else {
			_, err := c.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader("Subject: big\r\n\r\n" + strings.Repeat("0123456789\r\n", 60000))})
			require.NoError(t, err)
			fillInbox(t, c, 20)
		}
		_, err := c.Select(ctx, "INBOX", nil)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for worker := range 6 {
			rnd := rand.New(rand.NewPCG(uint64(worker), 1))
			wg.Go(func() {
				for range 40 {
					act(t, c, rnd)
				}
			})
		}
		wg.Wait()
		require.NoError(t, c.Noop(ctx))
		c.mu.Lock()
		assert.Empty(t, c.pending)
		c.mu.Unlock()
		require.NoError(t, c.Logout(ctx))
	}
}

// act does one thing at random, and checks the answer if there is one.
func act(t *testing.T, c *Client, rnd *rand.Rand) {
	ctx := t.Context()
	if rnd.IntN(3) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
		defer cancel()
	}
	uid := imap.UID(1 + rnd.IntN(20))
	var err error
	switch rnd.IntN(7) {
	case 0:
		err = c.Noop(ctx)
	case 1:
		var s *MailboxStatus
		if s, err = c.Status(ctx, "INBOX", StatusMessages); err == nil {
			assert.GreaterOrEqual(t, s.Messages, uint32(21))
		}
	case 2:
		var r *SearchResult[imap.UID]
		if r, err = c.Search(ctx, Criteria{}.In(UIDs(imap.NumSetOf(uid))), nil); err == nil {
			assert.Equal(t, imap.NumSetOf(uid), r.All)
		}
	case 3:
		var r *StoreResult
		op := imap.FlagOp{Action: imap.FlagAction(rnd.IntN(2)), Flags: imap.NewFlags(imap.FlagFlagged)}
		if r, err = c.Store(ctx, UIDs(imap.NumSetOf(uid)), op, nil); err == nil {
			assert.LessOrEqual(t, len(r.Messages), 2)
		}
	case 4:
		idle, leave := context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
		err = c.Idle(idle)
		leave()
	default:
		set, most := UIDs(imap.UIDSet{{First: 1, Last: uid}}), rnd.IntN(20)
		n := 0
		for m, ferr := range c.Fetch(ctx, set, FetchItems{Flags: true, Size: true, Sections: []Section{{}}}) {
			if err = ferr; err != nil {
				break
			}
			n++
			assert.Equal(t, imap.UID(n), m.UID)
			if rnd.IntN(4) == 0 {
				err = errors.Join(err, c.Noop(ctx))
			}
			if b, berr := m.Next(); berr == nil && rnd.IntN(2) == 0 {
				text, rerr := io.ReadAll(b)
				if berr = rerr; rerr == nil {
					assert.EqualValues(t, m.Size, len(text))
					want := "Subject: big\r\n"
					if m.UID > 1 {
						want = fmt.Sprintf("Subject: message %d\r\n", m.UID-1)
					}
					assert.Contains(t, string(text[:min(len(text), 200)]), want)
				}
				err = errors.Join(err, berr)
			}
			if err != nil || n > most {
				break
			}
		}
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if errors.Is(err, ErrClosed) {
		t.Errorf("the connection is lost: %v", err)
	}
}
