package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parseAll(t *testing.T, root string) []file {
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// A nested module (internal/bench) has its own rules.
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if name := d.Name(); path != root && (err == nil || name == "testdata" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		f := file{path: rel, pkg: strings.TrimSuffix(rel[:strings.LastIndex(rel, "/")+1], "/"), test: strings.HasSuffix(rel, "_test.go")}
		for _, imp := range src.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	require.NoError(t, err)
	return files
}

func TestImportRules(t *testing.T) {
	files := parseAll(t, filepath.Join("..", ".."))
	require.Greater(t, len(files), 20, "the module's files were not found")
	for _, f := range files {
		for _, fault := range check(f) {
			t.Error(fault)
		}
	}
}

func TestTopLevel(t *testing.T) {
	allowed := map[string]bool{"smtp": true, "imap": true, "pop3": true, "queue": true, "maildir": true,
		"mbox": true, "dnsauth": true, "spam": true, "internal": true, "examples": true}
	for _, f := range parseAll(t, filepath.Join("..", "..")) {
		assert.True(t, allowed[topOf(f.pkg)], "%s: no such folder at the top level", f.path)
	}
}

func TestRules(t *testing.T) {
	for _, tc := range []struct {
		path, imp string
		ok        bool
	}{
		{"smtp/a.go", "internal/dotio", true},
		{"smtp/a.go", "dnsauth/spf", false},
		{"smtp/a.go", "smtp/saslauth", false},
		{"smtp/saslauth/a.go", "smtp", true},
		{"smtp/a_test.go", "smtp/smtptest", true},
		{"smtp/a.go", "smtp/smtptest", false},
		{"imap/imapserver/a.go", "imap", true},
		{"imap/imapserver/a.go", "imap/internal/wire", true},
		{"imap/imapserver/a.go", "imap/memstore", false},
		{"imap/imapserver/a_test.go", "imap/memstore", true},
		{"maildir/a.go", "imap", true},
		{"maildir/a.go", "imap/imapserver", false},
		{"maildir/a.go", "smtp", false},
		{"pop3/maildrop/a.go", "imap", true},
		{"pop3/a.go", "imap", false},
		{"pop3/maildrop/a.go", "smtp", false},
		{"queue/relay/a.go", "smtp", true},
		{"queue/relay/a.go", "dnsauth/resolver", true},
		{"queue/spool/a.go", "smtp", false},
		{"queue/spool/a.go", "queue", true},
		{"queue/a.go", "queue/spool", false},
		{"dnsauth/a.go", "dnsauth/spf", true},
		{"dnsauth/spf/a.go", "dnsauth/resolver", true},
		{"dnsauth/spf/a.go", "dnsauth/dkim", false},
		{"dnsauth/dmarc/a.go", "dnsauth/spf", true},
		{"examples/x/a.go", "maildir", true},
		{"examples/x/a.go", "imap/storetest", true},
		{"smtp/a.go", "examples/x", false},
		{"internal/dotio/a.go", "smtp", false},
	} {
		f := file{path: tc.path, pkg: filepath.ToSlash(filepath.Dir(tc.path)), test: strings.HasSuffix(tc.path, "_test.go"),
			imports: []string{module + "/" + tc.imp}}
		assert.Equal(t, tc.ok, len(check(f)) == 0, "%s imports %s: %v", tc.path, tc.imp, check(f))
	}
	for _, tc := range []struct {
		path, imp string
		ok        bool
	}{
		{"smtp/a.go", "testing", false},
		{"smtp/smtptest/a.go", "testing", true},
		{"smtp/smtptest/a.go", "github.com/stretchr/testify/require", false},
		{"queue/a.go", "github.com/jackc/pgx/v5", false},
		{"queue/pgstore/a.go", "github.com/jackc/pgx/v5", true},
		{"spam/a.go", "github.com/prometheus/client_golang/prometheus", false},
	} {
		f := file{path: tc.path, pkg: filepath.ToSlash(filepath.Dir(tc.path)), imports: []string{tc.imp}}
		assert.Equal(t, tc.ok, len(check(f)) == 0, "%s imports %s", tc.path, tc.imp)
	}
}
