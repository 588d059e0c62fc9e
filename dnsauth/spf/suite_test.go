package spf_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// suiteDocument is one document of the test suite for RFC 7208 that the SPF
// project published; see README.md beside it.
type suiteDocument struct {
	Description string
	Tests       map[string]struct {
		Helo, Host, Mailfrom string
		Result               any // a word, or a list of acceptable ones
		Explanation          string
	}
	Zonedata map[string][]any
}

func TestSuite(t *testing.T) {
	data, err := os.ReadFile(shared.Path(t, "conformance", "dnsauth", "spf", "rfc7208-tests.yml"))
	require.NoError(t, err)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	cases, explanations := 0, 0
	for {
		var doc suiteDocument
		err := dec.Decode(&doc)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		zones := suiteZones(t, doc.Zonedata)
		for name, c := range doc.Tests {
			cases++
			t.Run(doc.Description+"/"+name, func(t *testing.T) {
				checker := &spf.Checker{Resolver: zones}
				res := checker.MailFrom(t.Context(), netip.MustParseAddr(c.Host), c.Helo, c.Mailfrom)
				ahead := (&spf.Checker{Resolver: zones, Prefetch: true}).MailFrom(t.Context(), netip.MustParseAddr(c.Host), c.Helo, c.Mailfrom)
				assert.Equal(t, res, ahead, "the result does not depend on Prefetch")
				want := []string{}
				switch r := c.Result.(type) {
				case string:
					want = append(want, r)
				case []any:
					for _, w := range r {
						want = append(want, w.(string))
					}
				}
				assert.Contains(t, want, string(res.Status), "reason: %s", res.Reason)
				if c.Explanation != "" && c.Explanation != "DEFAULT" {
					explanations++
					assert.Equal(t, c.Explanation, res.Explanation)
				}
			})
		}
	}
	assert.Equal(t, 203, cases)
	assert.Equal(t, 14, explanations)
}

func suiteZones(t *testing.T, data map[string][]any) *resolver.Zones {
	z := new(resolver.Zones)
	for name, list := range data {
		name = resolver.EscapeName(name)
		z.AddName(name)
		hasTXT := slices.ContainsFunc(list, func(v any) bool {
			m, ok := v.(map[string]any)
			return ok && m["TXT"] != nil
		})
		var listed []uint16
		timeout := false
		for _, v := range list {
			m, ok := v.(map[string]any)
			if !ok {
				require.Equal(t, "TIMEOUT", v)
				timeout = true
				continue
			}
			for typ, val := range m {
				if typ == "SPF" {
					if hasTXT {
						continue
					}
					typ = "TXT"
				}
				if val == "NONE" {
					continue
				}
				rrtype := dns.StringToType[typ]
				listed = append(listed, rrtype)
				if val == "TIMEOUT" {
					z.Fail(name, rrtype, resolver.ErrTimeout)
					continue
				}
				z.Add(suiteRecords(t, name, rrtype, val)...)
				if typ == "TXT" {
					z.AddTXT(name, joined(val))
				}
			}
		}
		if timeout {
			for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypePTR, dns.TypeTXT} {
				if !slices.Contains(listed, typ) {
					z.Fail(name, typ, resolver.ErrTimeout)
				}
			}
		}
	}
	return z
}

// joined returns a record's text; a list is one record of several strings.
func joined(val any) string {
	if list, ok := val.([]any); ok {
		var b strings.Builder
		for _, s := range list {
			b.WriteString(s.(string))
		}
		return b.String()
	}
	return val.(string)
}

func suiteRecords(t *testing.T, name string, rrtype uint16, val any) []dns.RR {
	if rrtype == dns.TypeTXT {
		return nil
	}
	var data string
	switch v := val.(type) {
	case string:
		data = v
	case []any: // MX: preference and name
		data = fmt.Sprint(v[0], " ", v[1])
	}
	if rrtype != dns.TypeA && rrtype != dns.TypeAAAA {
		data = dns.Fqdn(data)
	}
	if strings.HasSuffix(data, " .") || data == "." {
		data = strings.TrimSuffix(data, ".") + "."
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s 300 IN %s %s", dns.Fqdn(name), dns.TypeToString[rrtype], data))
	require.NoError(t, err)
	return []dns.RR{rr}
}
