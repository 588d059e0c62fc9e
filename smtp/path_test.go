package smtp

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// RFC 5321, 4.1.2 and 4.1.3.
func TestPath(t *testing.T) {
	cases := []struct {
		in, mailbox string
		ok          bool
	}{
		{"<>", "", true},
		{"<userx@y.foo.org>", "userx@y.foo.org", true},
		{"<@hosta.int,@jkl.org:userc@d.bar.org>", "userc@d.bar.org", true},
		{"<@hosta.int:userc@d.bar.org>", "userc@d.bar.org", true},
		{"<@hosta.int,userc@d.bar.org>", "", false},
		{"<@:userc@d.bar.org>", "", false},
		{"<@hosta.int:@b.int:c@d>", "", false},
		{"<@hosta.int:>", "", false},
		{"<postmaster>", "postmaster", true},
		{"<PostMaster>", "PostMaster", true},
		{"<root>", "", false},
		{`<"Joe\,Smith"@example.org>`, `"Joe\,Smith"@example.org`, true},
		{`<"a@b"@example.org>`, `"a@b"@example.org`, true},
		{`<"a>b"@example.org>`, `"a>b"@example.org`, true},
		{`<""@example.org>`, `""@example.org`, true},
		{`<"a@example.org>`, "", false},
		{"<\"a\x01\"@example.org>", "", false},
		{`<"a"b@example.org>`, "", false},
		{"<a b@example.org>", "", false},
		{"<.a@example.org>", "", false},
		{"<a.@example.org>", "", false},
		{"<a..b@example.org>", "", false},
		{"<a!#$%&'*+-/=?^_`{|}~@example.org>", "a!#$%&'*+-/=?^_`{|}~@example.org", true},
		{"<a@b@example.org>", "", false},
		{"<@example.org>", "", false},
		{"<a@>", "", false},
		{"<a@-b.org>", "", false},
		{"<a@b-.org>", "", false},
		{"<a@b..org>", "", false},
		{"<a@b.org.>", "", false},
		{"<a@b_c.org>", "a@b_c.org", true},
		{"<a@[192.0.2.1]>", "a@[192.0.2.1]", true},
		{"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", true},
		{"<a@[2001:db8::1]>", "", false},
		{"<a@[IPv6:192.0.2.1]>", "", false},
		{"<a@[192.0.2.256]>", "", false},
		{"<a@[192.0.2.1>", "", false},
		{"<a@[IPv6:fe80::1%eth0]>", "", false},
		{"<jürgen@exämple.test>", "jürgen@exämple.test", true},
		{"<" + strings.Repeat("a", 65) + "@example.org>", strings.Repeat("a", 65) + "@example.org", true},
		{"<" + strings.Repeat("a", 600) + "@example.org>", "", false},
		{"<a@" + strings.Repeat("a.", 127) + "a>", "a@" + strings.Repeat("a.", 127) + "a", true},
		{"<a@" + strings.Repeat("a.", 128) + "a>", "", false},
		{"<a@" + strings.Repeat("a", 64) + ".org>", "", false},
		{"a@example.org", "", false},
		{"<a@example.org", "", false},
		{"", "", false},
	}
	for _, c := range cases {
		mailbox, rest, err := parsePath([]byte(c.in))
		assert.Equal(t, c.ok, err == nil, c.in)
		if c.ok {
			assert.Equal(t, c.mailbox, string(mailbox))
			assert.Empty(t, rest, c.in)
		}
	}
}

func TestSplitAndJoinAddress(t *testing.T) {
	for addr, want := range map[string][2]string{
		"a@b.test": {"a", "b.test"}, `"a b"@c`: {"a b", "c"}, `"a\"b"@c`: {`a"b`, "c"}, `"x@y"@c`: {"x@y", "c"}, "postmaster": {"postmaster", ""}, `""@c`: {"", "c"},
	} {
		local, domain := SplitAddress(addr)
		assert.Equal(t, want, [2]string{local, domain}, addr)
		assert.Equal(t, addr, JoinAddress(local, domain))
	}
	local, _ := SplitAddress(`"plain"@c`)
	assert.Equal(t, "plain@c", JoinAddress(local, "c"), "quotes that are not needed go")
}

func TestSameDomain(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"example.org", "EXAMPLE.org", true},
		{"example.org", "example.com", false},
		{"bücher.test", "xn--bcher-kva.test", true},
		{"BÜCHER.test", "XN--BCHER-KVA.test", true},
		{"bücher.test", "bucher.test", false},
		{"[IPv6:2001:db8::1]", "[ipv6:2001:db8:0:0:0:0:0:1]", true},
		{"[192.0.2.1]", "192.0.2.1", false},
		{"[x]", "[y]", false},
	} {
		assert.Equal(t, c.want, SameDomain(c.a, c.b), "%s, %s", c.a, c.b)
		assert.Equal(t, c.want, SameDomain(c.b, c.a), "%s, %s", c.b, c.a)
	}
}
