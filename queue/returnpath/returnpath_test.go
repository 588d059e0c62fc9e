package returnpath_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue/returnpath"
)

func TestVERP(t *testing.T) {
	plain := &returnpath.VERP{}
	assert.Equal(t, "news+ann=example.org@list.example", plain.Encode("news@list.example", "ann@example.org"))
	keyed := &returnpath.VERP{Keys: [][]byte{[]byte("new"), []byte("old")}}
	for _, to := range []string{"ann@example.org", "a+b@example.org", "a=b=c@example.org", "ä@grün.test", "A.N@Example.ORG"} {
		for _, v := range []*returnpath.VERP{plain, keyed, {Keys: [][]byte{[]byte("old")}}, {Separator: '-'}} {
			address := v.Encode("news@list.example", to)
			require.NotEqual(t, "news@list.example", address)
			sender, recipient, err := v.Decode(address)
			require.NoError(t, err, address)
			assert.Equal(t, "news@list.example", sender)
			assert.Equal(t, to, recipient)
		}
	}
	old := (&returnpath.VERP{Keys: [][]byte{[]byte("old")}}).Encode("news@list.example", "ann@example.org")
	_, to, err := keyed.Decode(strings.ToUpper(old))
	require.NoError(t, err, "an old key, in a host's own case")
	assert.Equal(t, "ANN@EXAMPLE.ORG", to)

	for _, c := range [][2]string{
		{"", "ann@example.org"}, {"news@list.example", "postmaster"}, {"news@list.example", `"a b"@example.org`},
		{"news@list.example", "ann@[192.0.2.1]"}, {"has+plus@list.example", "ann@example.org"},
		{"news@list.example", strings.Repeat("x", 60) + "@example.org"},
	} {
		assert.Equal(t, c[0], keyed.Encode(c[0], c[1]), "nothing is encoded for %s", c[1])
	}
	for _, address := range []string{
		"", "news@list.example", "news+@list.example", "news+ann=example.org@list.example", "news+aaaaaa+ann=example.org@list.example",
		strings.Replace(old, "ann", "bob", 1), strings.Replace(old, "news", "olds", 1), "+aaaaaa+a=b@list.example",
	} {
		_, _, err := keyed.Decode(address)
		assert.ErrorIs(t, err, returnpath.ErrInvalid, address)
	}
}

func TestSRS(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	first := &returnpath.SRS{Domain: "one.example", Keys: [][]byte{[]byte("k1")}, Now: clock}
	second := &returnpath.SRS{Domain: "two.example", Keys: [][]byte{[]byte("k2")}, Now: clock}
	third := &returnpath.SRS{Domain: "three.example", Keys: [][]byte{[]byte("k3"), []byte("older")}, Now: clock}
	for _, sender := range []string{"ann@example.org", "a=b@example.org", "a+b@example.org", "srs@example.org", "SRS0x@example.org"} {
		a := first.Forward(sender)
		require.True(t, strings.HasPrefix(a, "SRS0=") && strings.HasSuffix(a, "@one.example"), a)
		b := second.Forward(a)
		require.True(t, strings.HasPrefix(b, "SRS1=") && strings.HasSuffix(b, "@two.example"), b)
		c := third.Forward(b)
		require.True(t, strings.HasPrefix(c, "SRS1=") && strings.HasSuffix(c, "@three.example"), c)
		assert.Equal(t, len(b), len(strings.Replace(c, "three", "two", 1)), "addresses do not grow")
		back, err := third.Reverse(c)
		require.NoError(t, err)
		assert.Equal(t, a, back, "a report goes straight to the first forwarder")
		back, err = first.Reverse(back)
		require.NoError(t, err)
		assert.Equal(t, sender, back)
		back, err = first.Reverse(strings.ToLower(a))
		require.NoError(t, err, "case does not matter")
		assert.Equal(t, strings.ToLower(sender), back)
	}
	for _, sender := range []string{"", "me@one.example", "postmaster", `"a b"@example.org`, strings.Repeat("x", 60) + "@example.org", "SRS1=x@example.org"} {
		assert.Equal(t, sender, first.Forward(sender), "stays as it is")
	}
	a := first.Forward("ann@example.org")
	for _, address := range []string{
		"", "ann@one.example", "SRS0@one.example", "SRS0=@one.example", "SRS0=aaaaaa=aa=example.org=ann@one.example", "SRS1=aaaaaa=x==y@one.example",
		"SRS0=a=b@one.example", strings.Replace(a, "ann", "bob", 1), strings.Replace(a, "@one", "@two", 1),
	} {
		_, err := first.Reverse(address)
		assert.ErrorIs(t, err, returnpath.ErrInvalid, address)
	}
	now = now.Add(21 * 24 * time.Hour)
	_, err := first.Reverse(a)
	assert.NoError(t, err)
	now = now.Add(24 * time.Hour)
	_, err = first.Reverse(a)
	assert.ErrorIs(t, err, returnpath.ErrInvalid, "too old")
	now = now.Add(-23 * 24 * time.Hour)
	_, err = first.Reverse(a)
	assert.NoError(t, err, "made by a host whose clock is ahead")
}

func FuzzReverse(f *testing.F) {
	srs := &returnpath.SRS{Domain: "d.test", Keys: [][]byte{[]byte("k")}, Now: func() time.Time { return time.Unix(1e9, 0) }}
	verp := &returnpath.VERP{Keys: [][]byte{[]byte("k")}}
	f.Add("ann@example.org", "bob@example.com")
	f.Add("SRS0=a=b=c=d@x.test", "SRS1=a=b==c=d@d.test")
	f.Fuzz(func(t *testing.T, sender, other string) {
		if a := srs.Forward(sender); a != sender {
			if got, err := srs.Reverse(a); err != nil {
				t.Fatalf("%q became %q: %v", sender, a, err)
			} else if strings.HasPrefix(a, "SRS0") && got != sender {
				t.Fatalf("%q became %q became %q", sender, a, got)
			}
		}
		if a := verp.Encode(sender, other); a != sender {
			s, r, err := verp.Decode(a)
			if err != nil || s != sender || r != other {
				t.Fatalf("%q for %q became %q became %q for %q: %v", sender, other, a, s, r, err)
			}
		}
		srs.Reverse(other)
		verp.Decode(other)
	})
}
