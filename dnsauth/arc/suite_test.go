package arc_test

import (
	"bytes"
	"io"
	"iter"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/mailblocks/mailblocks/dnsauth/arc"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// TestSuite runs the published validation cases; see README.md beside them.
func TestSuite(t *testing.T) {
	data, err := os.ReadFile(shared.Path(t, "conformance", "dnsauth", "arc", "arc-draft-validation-tests.yml"))
	require.NoError(t, err)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	names := make(map[string]bool)
	for {
		// Some names stand twice in a document, so it can't become a map.
		var doc yaml.Node
		err := dec.Decode(&doc)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		z := new(resolver.Zones)
		top := doc.Content[0]
		for name, text := range pairs(get(top, "txt-records")) {
			z.AddTXT(name, strings.TrimRight(text.Value, "\n"))
		}
		for name, c := range pairs(get(top, "tests")) {
			names[name] = true
			t.Run(name, func(t *testing.T) {
				message := get(c, "message").Value
				msg := strings.ReplaceAll(strings.ReplaceAll(message, "\r\n", "\n"), "\n", "\r\n")
				res, err := arc.Verify(t.Context(), z, strings.NewReader(msg))
				require.NoError(t, err)
				want := strings.ToLower(strings.TrimSpace(get(c, "cv").Value))
				if want == "" {
					// The suite is older than RFC 8617, 5.2, step 2, which says
					// fail where the draft left the outcome of a chain with a
					// seal of cv=fail open.
					want = "fail"
				}
				assert.Equal(t, want, string(res.Status), res.Reason)
				v := arc.NewVerifier(t.Context(), z)
				for _, b := range []byte(msg) {
					v.Write([]byte{b})
				}
				assert.Equal(t, res, v.Finish())
			})
		}
	}
	assert.Len(t, names, 171)
}

// pairs goes over a mapping.
func pairs(n *yaml.Node) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, n.Content[i+1]) {
				return
			}
		}
	}
}

func get(n *yaml.Node, key string) *yaml.Node {
	for k, v := range pairs(n) {
		if k == key {
			return v
		}
	}
	return new(yaml.Node)
}
