package arc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/arc"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func set(i int, cv string) string {
	return fmt.Sprintf("ARC-Seal: i=%d; a=rsa-sha256; cv=%s; d=example.org; s=s; b=YWJj\r\n"+
		"ARC-Message-Signature: i=%d; a=rsa-sha256; d=example.org; s=s; h=From; bh=YWJj; b=YWJj\r\n"+
		"ARC-Authentication-Results: i=%d; x.test; spf=pass\r\n", i, cv, i, i)
}

// TestStructure has chains that fail before any key is asked for.
func TestStructure(t *testing.T) {
	var many strings.Builder
	for i := 60; i > 0; i-- {
		many.WriteString(set(i, "pass"))
	}
	for name, c := range map[string]struct{ header, reason string }{
		"gap":        {set(3, "pass") + set(1, "none"), "a set is missing or not complete"},
		"twice":      {set(1, "none") + set(1, "none"), "two fields of one kind in a set"},
		"first pass": {set(1, "pass"), "cv= of seal 1 is not none"},
		"failed":     {set(2, "fail") + set(1, "none"), "cv= of seal 2 is not pass"},
		"zero":       {set(0, "none"), "bad instance"},
		"60":         {many.String(), "more than 50 sets"},
		"incomplete": {"ARC-Authentication-Results: i=1; x.test; none\r\n", "a set is missing or not complete"},
		"sha1":       {strings.Replace(set(1, "none"), "rsa-sha256", "rsa-sha1", 1), "unacceptable algorithm"},
		"h in seal":  {strings.Replace(set(1, "none"), "cv=", "h=From; cv=", 1), "malformed field"},
	} {
		z := new(resolver.Zones)
		res, err := arc.Verify(t.Context(), z, strings.NewReader(c.header+"From: a@example.org\r\n\r\nx\r\n"))
		require.NoError(t, err)
		assert.Equal(t, arc.Fail, res.Status, name)
		assert.Equal(t, c.reason, res.Reason, name)
		assert.Empty(t, z.Queries(), name)
	}
}

func TestReadsResults(t *testing.T) {
	z := new(resolver.Zones)
	res, err := arc.Verify(t.Context(), z, strings.NewReader(set(1, "none")+"\r\n"))
	require.NoError(t, err)
	assert.Equal(t, arc.Fail, res.Status)
	assert.Equal(t, "message signature 1: body hash did not verify", res.Reason)
	assert.Equal(t, "x.test", res.Sets[0].Results.ServID)
}

func FuzzVerify(f *testing.F) {
	f.Add(set(2, "pass") + set(1, "none") + "From: a@example.org\r\n\r\nbody\r\n")
	z := new(resolver.Zones)
	f.Fuzz(func(t *testing.T, msg string) {
		res, err := arc.Verify(t.Context(), z, strings.NewReader(msg))
		require.NoError(t, err)
		assert.NotEqual(t, arc.Pass, res.Status, "there are no keys")
	})
}

func Example() {
	message := "From: alice@example.org\r\n\r\nHello.\r\n"
	res, err := arc.Verify(context.Background(), new(resolver.Zones), strings.NewReader(message))
	fmt.Println(res.Status, err)
	// Output: none <nil>
}
