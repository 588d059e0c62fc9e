package dmarc_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func TestReportDestination(t *testing.T) {
	z := resolver.MustParseZones(`
		_dmarc.example.org.                       TXT "v=DMARC1; p=none"
		example.org._report._dmarc.reports.test.  TXT "v=DMARC1"
		example.org._report._dmarc.moved.test.    TXT "v=DMARC1; rua=mailto:new@moved.test,mailto:x@victim.test"
		example.org._report._dmarc.other.test.    TXT "hello"
		*._report._dmarc.all.test.                TXT "v=DMARC1;"
	`)
	z.Fail("example.org._report._dmarc.down.test", 0, resolver.ErrServFail)
	for uri, want := range map[string][]string{
		"mailto:d@example.org":         {"mailto:d@example.org"},
		"mailto:d@Reports.Example.org": {"mailto:d@Reports.Example.org"},
		"mailto:d@reports.test":        {"mailto:d@reports.test"},
		"https://reports.test/x":       {"https://reports.test/x"},
		"mailto:old@moved.test":        {"mailto:new@moved.test"},
		"mailto:d@all.test":            {"mailto:d@all.test"},
		"mailto:d@other.test":          nil,
		"mailto:d@victim.test":         nil,
		"mailto:d":                     nil,
		"%":                            nil,
	} {
		got, err := dmarc.ReportDestination(t.Context(), z, "example.org", uri, nil)
		assert.Equal(t, want, got, uri)
		if want == nil {
			assert.ErrorIs(t, err, dmarc.ErrDestination, uri)
		} else {
			assert.NoError(t, err, uri)
		}
	}
	_, err := dmarc.ReportDestination(t.Context(), z, "example.org", "mailto:d@down.test", nil)
	assert.ErrorIs(t, err, resolver.ErrServFail)
}
