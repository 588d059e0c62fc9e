package imapserver

import (
	"bufio"
	"context"
	"errors"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// Named filters (RFC 5466) are annotations of the server whose value is a search program. A
// key FILTER stands for one; it is looked up when the search begins.

// namedFilter is a FILTER key, before and after it was looked up.
type namedFilter struct {
	name  string
	query criterion
}

// maxFilterDepth is how deep filters may stand in filters.
const maxFilterDepth = 10

// undefinedFilter is reported for a filter that is not there, or is no search program.
type undefinedFilter struct{ name string }

func (e *undefinedFilter) Error() string { return "no such filter: " + e.name }

var errFilterCharset = errors.New("a search with filters is in UTF-8")

// filterKey takes what follows FILTER.
func (p *searchParser) filterKey() criterion {
	p.c.dec.SP()
	f := &namedFilter{name: p.c.dec.Atom()}
	if strings.Contains(f.name, "/") {
		p.c.dec.Fail("no such filter name")
	}
	p.filters = append(p.filters, f)
	return criterion{costBody, func(m *candidate) bool { return f.query.match(m) }}
}

// lookUpFilters gives each FILTER key the program that it stands for.
func (p *searchParser) lookUpFilters(ctx context.Context) error {
	if len(p.filters) == 0 {
		return nil
	}
	switch strings.ToLower(p.charset) {
	case "", "us-ascii", "utf-8":
	default:
		return errFilterCharset
	}
	entries, err := p.c.readAnnotations(ctx, "")
	if errors.Is(err, imap.ErrNoPermission) { // the store keeps none
		return &undefinedFilter{p.filters[0].name}
	} else if err != nil {
		return err
	}
	for depth := 0; len(p.filters) > 0; depth++ {
		pending := p.filters
		p.filters = nil
		for _, f := range pending {
			value, there := entries["/private/filters/values/"+strings.ToLower(f.name)]
			if !there {
				value, there = entries["/shared/filters/values/"+strings.ToLower(f.name)]
			}
			if !there || depth >= maxFilterDepth || !p.program(value, &f.query) {
				return &undefinedFilter{f.name}
			}
		}
	}
	return nil
}

// program parses a search program that is not part of the command.
func (p *searchParser) program(text string, query *criterion) bool {
	c := p.c
	command, charset := c.dec, p.charset
	defer func() { c.dec, p.charset = command, charset }()
	c.dec = wire.Decoder{MaxLine: imap.MaxAnnotation + 2, MaxCommand: imap.MaxAnnotation + 2, MaxLiteral: imap.MaxAnnotation}
	c.dec.Reset(bufio.NewReader(strings.NewReader(text + "\r\n")))
	if c.dec.Next() != nil {
		return false
	}
	p.charset = "UTF-8"
	*query = p.keys()
	return c.end()
}
