package imapserver

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Orders that are remembered are the same as those that are made anew, whatever came and went.
func TestSortRemembers(t *testing.T) {
	ts := newServer(t, nil)
	c, fresh := rawSession(t, ts.addr), rawSession(t, ts.addr)
	mail := func(i int) {
		msg := fmt.Sprintf("Subject: s%d\r\nFrom: p%d@x.test\r\nDate: %d Jan 2024 10:00:00 +0000\r\n\r\nx", i*7%5, i*3%4, 1+i*11%28)
		c.do(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(msg), msg))
	}
	for i := range 30 {
		mail(i)
	}
	c.do("SELECT INBOX")
	sorts := []string{"SORT (SUBJECT)", "SORT (REVERSE SUBJECT FROM)", "SORT (REVERSE DATE)", "UID SORT (FROM REVERSE DATE SIZE)"}
	check := func() {
		for _, sort := range sorts {
			all, some := sort+" UTF-8 ALL", sort+" UTF-8 FROM p2"
			c.do(all)
			gotAll, gotSome := c.do(all), c.do(some)
			for _, b := range ts.Server.accounts["ann"].boxes {
				b.rankings.mu.Lock()
				require.NotEmpty(t, b.rankings.list)
				b.rankings.list = nil
				b.rankings.mu.Unlock()
			}
			fresh.do("SELECT INBOX")
			require.Equal(t, fresh.do(some), gotSome, some)
			require.Equal(t, fresh.do(all), gotAll, all)
		}
	}
	check()
	c.do(`STORE 3,9,20 +FLAGS (\Deleted)`)
	c.do("EXPUNGE")
	check()
	mail(40)
	c.do("NOOP")
	check()
}
