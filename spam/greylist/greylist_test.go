package greylist_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/greylist"
)

func TestVisits(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := greylist.New(new(spam.Memory), greylist.Options{Now: func() time.Time { return now }})
	assert.Equal(t, spam.Rcpt, c.Stage())
	waits := func(e spam.Envelope) bool {
		v, err := c.Check(t.Context(), &e, nil)
		require.NoError(t, err)
		if v.Action == spam.Accept {
			return false
		}
		assert.Equal(t, spam.Defer, v.Action)
		assert.Contains(t, v.Reply, "try again in")
		return true
	}
	stranger := spam.Envelope{Remote: netip.MustParseAddr("192.0.2.1"), Sender: "a@example.org"}
	assert.True(t, waits(stranger))
	now = now.Add(time.Minute)
	assert.True(t, waits(stranger), "too soon")
	now = now.Add(4 * time.Minute)
	neighbour := spam.Envelope{Remote: netip.MustParseAddr("192.0.2.77"), Sender: "b@example.net", Recipients: []string{"c@example.com"}}
	assert.False(t, waits(neighbour), "it may come from another address of the network, about anything")
	assert.False(t, waits(stranger), "it is known")
	now = now.Add(30 * 24 * time.Hour)
	assert.False(t, waits(stranger))

	other := spam.Envelope{Remote: netip.MustParseAddr("198.51.100.1")}
	assert.True(t, waits(other))
	now = now.Add(25 * time.Hour)
	assert.True(t, waits(other), "too late")
	now = now.Add(5 * time.Minute)
	assert.False(t, waits(other))

	assert.False(t, waits(spam.Envelope{}), "nobody to remember")
}

func TestDoubtful(t *testing.T) {
	stranger := spam.Envelope{RemoteName: "mx.example.org", Authenticated: []string{"example.org"}, DMARC: "pass"}
	for name, c := range map[string]struct {
		change func(e *spam.Envelope)
		want   bool
	}{
		"named and authenticated": {func(*spam.Envelope) {}, false},
		"DMARC failed":            {func(e *spam.Envelope) { e.DMARC = "fail" }, true},
		"nothing vouches":         {func(e *spam.Envelope) { e.Authenticated = nil }, true},
		"no name":                 {func(e *spam.Envelope) { e.RemoteName = "" }, true},
		"our own user":            {func(e *spam.Envelope) { *e = spam.Envelope{Identity: "alice"} }, false},
	} {
		e := stranger
		c.change(&e)
		assert.Equal(t, c.want, greylist.Doubtful(&e, nil), name)
	}
	c := greylist.New(new(spam.Memory), greylist.Options{Stage: spam.Data, Doubtful: func(_ *spam.Envelope, m *spam.Message) bool { return m != nil && m.Subject == "sale" }})
	assert.Equal(t, spam.Data, c.Stage())
	e := &spam.Envelope{Remote: netip.MustParseAddr("192.0.2.1")}
	v, err := c.Check(t.Context(), e, &spam.Message{Subject: "lunch"})
	require.NoError(t, err)
	assert.Equal(t, spam.Accept, v.Action)
	v, err = c.Check(t.Context(), e, &spam.Message{Subject: "sale"})
	require.NoError(t, err)
	assert.Equal(t, spam.Defer, v.Action)
}

func TestPeer(t *testing.T) {
	for _, c := range []struct{ name, addr, want string }{
		{"mx1.mail.Example.co.uk.", "192.0.2.1", "example.co.uk"},
		{"localhost", "192.0.2.1", "192.0.2.0/24"},
		{"", "::ffff:192.0.2.1", "192.0.2.0/24"},
		{"", "2001:db8:1:2::3", "2001:db8:1:2::/64"},
		{"co.uk", "192.0.2.1", "192.0.2.0/24"},
	} {
		assert.Equal(t, c.want, greylist.Peer(&spam.Envelope{RemoteName: c.name, Remote: netip.MustParseAddr(c.addr)}))
	}
}
