package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

func quotas(octets, messages int64) []imap.Quota {
	return []imap.Quota{{Resource: imap.QuotaStorage, Limit: octets}, {Resource: imap.QuotaMessages, Limit: messages}}
}

func TestQuotaFile(t *testing.T) {
	tr := newTree(t)
	now := time.Now()
	s, err := Open(tr.root, &Options{Quota: QuotaLimits{Octets: 10000}, Now: func() time.Time { return now }})
	require.NoError(t, err)
	box, err := s.Open(t.Context(), imap.Inbox)
	require.NoError(t, err)
	defer box.Close()
	appendText := func(n int) error {
		_, err := box.Append(t.Context(), []imap.NewMessage{{Body: strings.NewReader(strings.Repeat("x", n-2) + "\r\n")}})
		return err
	}
	require.NoError(t, appendText(132), "the options' limits hold where there is no file")
	assert.Equal(t, "10000S,0C\n132 1\n", tr.readFile(maildirSizeFile))
	require.NoError(t, s.SetQuota(t.Context(), "", quotas(1000, 3)))
	assert.Equal(t, "1000S,3C\n132 1\n", tr.readFile(maildirSizeFile))
	require.NoError(t, appendText(39))
	require.NoError(t, box.Expunge(t.Context(), imap.NumSetOf[imap.UID](1), false))
	assert.Equal(t, "1000S,3C\n132 1\n39 1\n-132 -1\n", tr.readFile(maildirSizeFile))

	t.Run("over quota", func(t *testing.T) {
		require.ErrorIs(t, appendText(2000), imap.ErrOverQuota)
		assert.Equal(t, "1000S,3C\n39 1\n", tr.readFile(maildirSizeFile), "it was counted anew")
		require.ErrorIs(t, appendText(2000), imap.ErrOverQuota)
		assert.Equal(t, "1000S,3C\n39 1\n", tr.readFile(maildirSizeFile), "it is fresh")
	})
	t.Run("another program removed mail", func(t *testing.T) {
		tr.write(maildirSizeFile, "1000S,3C\n900 2\n39 1\n")
		require.NoError(t, appendText(100))
		assert.Equal(t, "1000S,3C\n139 2\n", tr.readFile(maildirSizeFile))
	})
	t.Run("and it was long ago", func(t *testing.T) {
		tr.write(maildirSizeFile, "1000S,3C\n990 1\n")
		now = now.Add(time.Hour)
		require.NoError(t, appendText(100))
		assert.Equal(t, "1000S,3C\n239 3\n", tr.readFile(maildirSizeFile))
	})
	t.Run("as Courier writes it", func(t *testing.T) {
		require.NoError(t, box.Expunge(t.Context(), imap.AllUIDs, false))
		tr.write(maildirSizeFile, "1000S\n         239            3\n")
		got, err := s.Quota(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, []imap.Quota{{Resource: imap.QuotaStorage, Usage: 239, Limit: 1000}}, got)
	})
	for name, text := range map[string]string{
		"damaged":      "1000S\n1 1\nnonsense\n",
		"negative":     "1000S\n-1 -1\n",
		"torn":         "1000S\n1 1\n2",
		"without sums": "1000S\n",
		"too long":     "1000S\n" + strings.Repeat("0 0\n", 2000),
	} {
		t.Run(name, func(t *testing.T) {
			tr.write(maildirSizeFile, text)
			got, err := s.Quota(t.Context(), "")
			require.NoError(t, err)
			assert.Equal(t, []imap.Quota{{Resource: imap.QuotaStorage, Usage: 0, Limit: 1000}}, got)
			assert.Equal(t, "1000S,0C\n0 0\n", tr.readFile(maildirSizeFile))
		})
	}
}

func TestACLFile(t *testing.T) {
	tr := newTree(t)
	s, err := Open(tr.root, nil)
	require.NoError(t, err)
	tr.write(aclFile, "# a comment\nuser=bob lrs\n-user=bob w\n\"user=two words\" lr\nowner lrwstipekxa\ngroup=team :lookup read write-deleted\nauthenticated l\nnonsense\n")
	acl, err := s.ACL(t.Context(), imap.Inbox)
	require.NoError(t, err)
	var got []string
	for _, e := range acl {
		got = append(got, e.Identifier+" "+e.Rights.String())
	}
	assert.Equal(t, []string{"bob lrs", "-bob w", "two words lr", "owner lrswipkxtea", "$team lrt"}, got)
	require.NoError(t, s.SetRights(t.Context(), imap.Inbox, "-$team", imap.RightsOp{Rights: imap.RightPost}))
	require.NoError(t, s.SetRights(t.Context(), imap.Inbox, "bob", imap.RightsOp{Action: imap.FlagsReplace}))
	assert.Equal(t, "# a comment\nauthenticated l\nnonsense\n-user=bob w\n\"user=two words\" lr\nowner lrswipkxtea\ngroup=team lrt\n-group=team p\n", tr.readFile(aclFile))
	assert.Error(t, s.SetRights(t.Context(), imap.Inbox, "a\nb", imap.RightsOp{Rights: imap.RightPost}))
}

func TestDovecotReadsRightsAndQuota(t *testing.T) {
	d := newDoveadm(t)
	s, err := Open(d.root, nil)
	require.NoError(t, err)
	require.NoError(t, s.Create(t.Context(), "Work", nil))
	for _, id := range []string{"bob", "two words", "anyone", "$team", "-bob"} {
		require.NoError(t, s.SetRights(t.Context(), "Work", id, imap.RightsOp{Rights: imap.RightRead | imap.RightLookup}))
	}
	require.NoError(t, s.SetQuota(t.Context(), "", quotas(1<<20, 100)))
	box, err := s.Open(t.Context(), "Work")
	require.NoError(t, err)
	_, err = box.Append(t.Context(), []imap.NewMessage{{Body: strings.NewReader(strings.Repeat("x", 4094) + "\r\n")}})
	require.NoError(t, err)
	require.NoError(t, box.Close())
	plugin := []string{"-o", "mail_plugins=acl quota", "-o", "plugin/acl=vfile", "-o", "plugin/quota=maildir:User", "-o", "plugin/quota_rule=*:storage=1M:messages=100"}
	out := d.run("", append(plugin, "acl", "get", "Work")...)
	for _, want := range []string{"user=bob +lookup read -lookup -read", "user=two words +lookup read", "anyone +lookup read", "group=team +lookup read"} {
		assert.Regexp(t, "(?m)^"+want, out)
	}
	out = d.run("", append(plugin, "quota", "get")...)
	assert.Regexp(t, `STORAGE\s+4\s+1024\s`, out)
	assert.Regexp(t, `MESSAGE\s+1\s+100\s`, out)
	d.run("", append(plugin, "acl", "set", "Work", "user=carl@example.org", "lookup", "write-deleted", "expunge")...)
	acl, err := s.ACL(t.Context(), "Work")
	require.NoError(t, err)
	assert.Equal(t, "lrte", acl.Of("carl@example.org", "nobody").String(), "%v", acl)
}

func TestSideFilesAreBounded(t *testing.T) {
	tr := newTree(t)
	s, err := Open(tr.root, nil)
	require.NoError(t, err)
	path := filepath.Join(tr.root, annotationsFile)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, 1<<40))
	entries, err := s.Annotations(t.Context(), imap.Inbox)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func FuzzAnnotations(f *testing.F) {
	f.Add("/shared/comment aGVsbG8=\n/private/x =\nnonsense\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries := parseAnnotations(text)
		assert.Equal(t, entries, parseAnnotations(string(formatAnnotations(entries))))
	})
}

func FuzzACL(f *testing.F) {
	f.Add("# comment\nuser=bob lrs\n-\"user=a b\" w\n\"-user=a\\\\b\" lr :read\ngroup=team :lookup\nowner cd\n")
	f.Fuzz(func(t *testing.T, text string) {
		acl, others := parseACL(text)
		again, rest := parseACL(string(formatACL(acl, others)))
		assert.Equal(t, acl, again, fmt.Sprintf("%q", formatACL(acl, others)))
		assert.Equal(t, others, rest)
	})
}

func FuzzMaildirSize(f *testing.F) {
	f.Add("1000S,3C\n132 1\n39 1\n-35 -1\n")
	f.Add("1000S\n   1 1")
	f.Fuzz(func(t *testing.T, text string) {
		s, _ := parseSizeFile(text)
		assert.GreaterOrEqual(t, s.limits.Octets, int64(0))
	})
}
