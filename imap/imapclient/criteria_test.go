package imapclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

func TestCriteria(t *testing.T) {
	day := time.Date(2026, 11, 2, 23, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		q    Criteria
		want string
	}{
		{Criteria{}, "ALL"},
		{Criteria{}.To("a").Cc("b").Bcc("c d"), `TO a CC b BCC "c d"`},
		{Criteria{}.Before(day).On(day).SentBefore(day).SentOn(day).SentSince(day), "BEFORE 2-Nov-2026 ON 2-Nov-2026 SENTBEFORE 2-Nov-2026 SENTON 2-Nov-2026 SENTSINCE 2-Nov-2026"},
		{Criteria{}.SavedBefore(day).SavedOn(day).SavedSince(day).SaveDateSupported(), "SAVEDBEFORE 2-Nov-2026 SAVEDON 2-Nov-2026 SAVEDSINCE 2-Nov-2026 SAVEDATESUPPORTED"},
		{Criteria{}.Older(time.Hour).Younger(time.Millisecond), "OLDER 3600 YOUNGER 1"},
		{Criteria{}.ModSeq(7).EmailID("M1").ThreadID("T1").Filter("on-the-road"), "MODSEQ 7 EMAILID M1 THREADID T1 FILTER on-the-road"},
		{Criteria{}.Flag(imap.FlagSeen).NotFlag(`\deleted`).Flag(`\Recent`).NotFlag(`\Recent`).Flag("$x").NotFlag("$y"), "SEEN UNDELETED RECENT OLD KEYWORD $x UNKEYWORD $y"},
		{Criteria{}.And(Criteria{}.Larger(1).Smaller(2)).And(Criteria{}), "LARGER 1 SMALLER 2"},
		{Criteria{}.In(Seqs(imap.SeqSet{{First: 2, Last: 4}})).In(Saved()).In(All()), "2:4 UID $ UID 1:*"},
		{Criteria{}.Not(Criteria{}.Body("x").Text("y")).Fuzzy(Criteria{}), "NOT (BODY x TEXT y) FUZZY (ALL)"},
		{Criteria{}.Header("X-Y", "").Subject("nil"), `HEADER X-Y "" SUBJECT "nil"`},
	} {
		_, err := tc.q.check()
		require.NoError(t, err)
		var out bytes.Buffer
		c := &Client{}
		c.enc = wire.NewEncoder(&out)
		w := &writer{c: c, ctx: t.Context()}
		tc.q.write(w)
		w.flush()
		assert.Equal(t, tc.want, out.String())
	}
	// A longer copy leaves the shorter as it was.
	q := Criteria{}.From("a")
	a, b := q.To("b"), q.To("c")
	assert.NotEqual(t, a, b)
	assert.Len(t, q.keys, 2)
}

func TestDialTLS(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	opt := &ClientOptions{
		TLS: &tls.Config{RootCAs: testPool},
		Log: func(_ bool, line string) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, line)
		},
		Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			assert.Equal(t, "peer.test:993", addr)
			return scripted(t, `
				TLS
				S: * OK [CAPABILITY IMAP4rev1] hello
				C: T LOGIN "ann" "secret"
				S: T OK in
				C: T CHECK
				S: T OK done
				C: T CAPABILITY
				S: * CAPABILITY IMAP4rev1 SORT
				S: T OK done
				C: T SORT (SIZE) UTF-8 ALL
				S: * SORT 2 1
				S: T OK done
				C: T LOGOUT
				S: * BYE bye
				S: T OK done
			`), nil
		},
	}
	ctx := t.Context()
	c, err := DialTLS(ctx, "peer.test:993", opt)
	require.NoError(t, err)
	assert.True(t, c.TLS())
	assert.Equal(t, "hello", c.Greeting().Text)
	require.NoError(t, c.Login(ctx, "ann", "secret"))
	require.NoError(t, c.Check(ctx))
	r, err := c.SortSeqs(ctx, []SortKey{SortSize}, Criteria{}, nil)
	require.NoError(t, err)
	assert.Equal(t, []imap.SeqNum{2, 1}, r.Order)
	require.NoError(t, c.Logout(ctx))
	<-c.ended
	assert.Contains(t, lines, "m1 LOGIN")
	assert.Contains(t, lines, "m1 OK in")
	assert.NotContains(t, lines, "secret")
}
