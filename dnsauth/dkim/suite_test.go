package dkim_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// manifest is the format of the development suites; see README.md beside them.
type manifest struct {
	DNS   map[string]json.RawMessage
	Cases []struct {
		ID, File, Expect string
		PerSig           []string `json:"per_sig"`
		At               int64
		Override         map[string]json.RawMessage `json:"dns_override"`
	}
}

func addKeys(t *testing.T, z *resolver.Zones, keys map[string]json.RawMessage) {
	for name, raw := range keys {
		z.Remove(name, 0)
		var texts []string
		if json.Unmarshal(raw, &texts) == nil {
			for _, text := range texts {
				z.AddTXT(name, text)
			}
			continue
		}
		var fault struct{ RCode string }
		require.NoError(t, json.Unmarshal(raw, &fault))
		if fault.RCode != "NXDOMAIN" {
			z.Fail(name, 0, resolver.ErrServFail)
		}
	}
}

func crlf(msg []byte) []byte {
	msg = bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(msg, []byte("\n"), []byte("\r\n"))
}

func best(results []dkim.Result) dkim.Status {
	var status dkim.Status = "none"
	for _, r := range results {
		if r.Status == dkim.Pass {
			return r.Status
		}
		status = r.Status
	}
	return status
}

func TestSuites(t *testing.T) {
	for _, suite := range []string{"dkim-lieser", "dkim-dkimpy"} {
		dir := shared.Path(t, "conformance", "dnsauth", suite)
		data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		require.NoError(t, err)
		var m manifest
		require.NoError(t, json.Unmarshal(data, &m))
		require.NotEmpty(t, m.Cases)
		for _, c := range m.Cases {
			t.Run(suite+"/"+c.ID, func(t *testing.T) {
				msg, err := os.ReadFile(filepath.Join(dir, c.File))
				if errors.Is(err, os.ErrNotExist) {
					t.Skip("no such file in this copy of the suite")
				}
				require.NoError(t, err)
				msg = crlf(msg)
				z := new(resolver.Zones)
				addKeys(t, z, m.DNS)
				addKeys(t, z, c.Override)
				opt := &dkim.VerifyOptions{}
				if c.At != 0 {
					opt.Now = func() time.Time { return time.Unix(c.At, 0) }
				}
				want, err := dkim.Verify(t.Context(), z, bytes.NewReader(msg), opt)
				require.NoError(t, err)
				if c.Expect == "pass" {
					assert.Equal(t, dkim.Pass, best(want), "%+v", want)
				} else {
					assert.NotEqual(t, dkim.Pass, best(want))
				}
				for i, p := range c.PerSig {
					assert.Equal(t, p == "pass", want[i].Status == dkim.Pass, "signature %d: %s", i, want[i].Reason)
				}
				for _, size := range []int{1, 7, 4095, 4096, 65536} {
					v := dkim.NewVerifier(t.Context(), z, opt)
					writeChunks(v, msg, size)
					assert.Equal(t, want, v.Finish(), "chunks of %d", size)
				}
			})
		}
	}
}

func writeChunks(w interface{ Write([]byte) (int, error) }, msg []byte, size int) {
	for len(msg) > 0 {
		n := min(size, len(msg))
		w.Write(msg[:n])
		msg = msg[n:]
	}
}
