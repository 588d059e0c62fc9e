package imap

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func rights(t *testing.T, s string) RightSet {
	t.Helper()
	r, ok := ParseRights(s)
	require.True(t, ok, s)
	return r
}

func TestParseRights(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "lrs": "lrs", "srl": "lrs", "ll": "l", "d": "te", "c": "kx", "lrswida": "lrswitea", "aetxkpiwsrl": rightLetters,
	} {
		assert.Equal(t, want, rights(t, in).String(), in)
	}
	for _, bad := range []string{"lrQ", "q", "l r", "+l", "1"} {
		_, ok := ParseRights(bad)
		assert.False(t, ok, bad)
	}
	assert.Equal(t, rightLetters, AllRights.String())
}

func TestRightsOfUsers(t *testing.T) {
	tests := []struct{ name, acl, user, want string }{
		{"no list: the owner has all", "", "fred", "lrswipkxtea"},
		{"no list: others have none", "", "ann", ""},
		{"granted by name", "ann lrs", "ann", "lrs"},
		{"to another", "bob lrs", "ann", ""},
		{"names are compared whole", "annie lrs", "ann", ""},
		{"anyone is also ann", "anyone lr ann i", "ann", "lri"},
		{"RFC 4314, 2: a negative right", "ann lrw -ann w", "ann", "lr"},
		{"a negative right wins over anyone", "anyone lrw -ann w", "ann", "lr"},
		{"of anyone", "ann lrw -anyone w", "ann", "lr"},
		{"of another", "ann lrw -bob w", "ann", "lrw"},
		{"RFC 4314, 3.2", "fred rwipslxetad -fred wetd $team w", "fred", "lrsipxa"},
		{"an owner's entry", "fred lr", "fred", "lra"},
		{"the owner by role", "owner lrs", "fred", "lrsa"},
		{"anyone does not take from the owner", "anyone lr", "fred", "lrswipkxtea"},
		{"the owner can not be locked out", "owner r -owner lra", "fred", "la"},
		{"owner is not a user's name", "owner lrs", "ann", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var acl ACL
			fields := strings.Fields(tt.acl)
			for i := 0; i < len(fields); i += 2 {
				var err error
				acl, err = acl.With(fields[i], RightsOp{FlagsReplace, rights(t, fields[i+1])})
				require.NoError(t, err)
			}
			assert.Equal(t, tt.want, acl.Of(tt.user, "fred").String())
		})
	}
}

func TestChangeACL(t *testing.T) {
	old := ACL{{"ann", rights(t, "lr")}}
	acl, err := old.With("ann", RightsOp{FlagsAdd, rights(t, "cda")})
	require.NoError(t, err)
	assert.Equal(t, "lrkxtea", acl[0].Rights.String())
	assert.Equal(t, "lr", old[0].Rights.String(), "the old list stays")
	acl, err = acl.With("ann", RightsOp{FlagsRemove, rights(t, "da")})
	require.NoError(t, err)
	assert.Equal(t, "lrkx", acl[0].Rights.String())
	acl, err = acl.With("ann", RightsOp{FlagsReplace, 0})
	require.NoError(t, err)
	assert.Empty(t, acl)
	for i := range MaxACL {
		acl = append(acl, ACLEntry{strings.Repeat("x", i+1), RightRead})
	}
	_, err = acl.With("y", RightsOp{FlagsAdd, RightRead})
	assert.ErrorIs(t, err, ErrLimit)
}

func TestAnnotated(t *testing.T) {
	old := map[string]string{"/shared/a": "1"}
	set := func(entry, value string) Annotation { return Annotation{Entry: entry, Value: value} }
	now, err := Annotated(old, []Annotation{set("/shared/b", "2"), {Entry: "/shared/a", Remove: true}})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"/shared/b": "2"}, now)
	assert.Equal(t, map[string]string{"/shared/a": "1"}, old)
	_, err = Annotated(old, []Annotation{set("/shared/b", strings.Repeat("x", MaxAnnotation+1))})
	assert.ErrorIs(t, err, ErrTooBig)
	var many []Annotation
	for i := range MaxAnnotations {
		many = append(many, set("/shared/many/"+strings.Repeat("x", i+1), ""))
	}
	_, err = Annotated(nil, many)
	assert.NoError(t, err)
	_, err = Annotated(old, many)
	assert.ErrorIs(t, err, ErrLimit)
}

func TestValidEntry(t *testing.T) {
	for name, want := range map[string]bool{
		"/shared/comment": true, "/private/vendor/x/y": true, "/private/filters/values/on-the-road": true,
		"/shared": false, "/shared/": false, "/shared//x": false, "/public/x": false, "comment": false, "": false,
		"/shared/a*": false, "/shared/a%": false, "/shared/\u00e4": false, "/shared/a b": false, "/shared/a\t": false, "/private/x/": false,
	} {
		assert.Equal(t, want, ValidEntry(name), name)
	}
}
