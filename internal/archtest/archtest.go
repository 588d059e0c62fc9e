// Package archtest keeps the import rules of the project: which package may know which. Its
// test parses the source files of the whole module; there is nothing to import.
package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// A file is what the rules look at of one source file.
type file struct {
	path    string // relative to the module's root, with slashes
	pkg     string // its folder: "smtp", "dnsauth/spf"
	test    bool   // a _test.go file
	imports []string
}

const module = "github.com/mailblocks/mailblocks"

// roots are the packages that know nothing of this module but internal/.
var roots = []string{"smtp", "pop3", "imap", "queue", "spam"}

// stores may import the mailbox contract, and servers must not know them.
var stores = []string{"maildir", "mbox", "imap/memstore", "imap/pgstore"}

// servers must not be known by stores.
var servers = []string{"smtp", "pop3", "imap/imapserver"}

// bridges join top-level packages: each may import what stands behind it.
var bridges = map[string][]string{
	"pop3/maildrop": {"pop3", "imap"},
	"queue/relay":   {"queue", "smtp", "dnsauth"},
	"spam/checks":   {"spam", "dnsauth"},
}

// leaves lists which leaves of dnsauth know others; all of them may know the resolver.
var leaves = map[string][]string{
	"dnsauth/dmarc": {"dnsauth/spf", "dnsauth/dkim", "dnsauth/authres"},
	"dnsauth/arc":   {"dnsauth/spf", "dnsauth/dkim", "dnsauth/authres"},
}

// heavy dependencies may be imported only below the given folders.
var heavy = map[string][]string{
	"github.com/jackc/pgx":                {"imap/pgstore", "queue/pgstore"},
	"github.com/minio/minio-go":           {"imap/pgstore/s3"},
	"github.com/emersion/go-milter":       {"spam/milter"},
	"github.com/prometheus/client_golang": {"examples"},
	"github.com/caddyserver/certmagic":    {"examples"},
	"github.com/pquerna/otp":              {"examples"},
}

// check returns what is wrong with f's imports, in words.
func check(f file) []string {
	var faults []string
	fault := func(imp, why string) {
		faults = append(faults, fmt.Sprintf("%s imports %s: %s", f.path, imp, why))
	}
	for _, imp := range f.imports {
		local, ours := strings.CutPrefix(imp, module+"/")
		switch {
		case imp == "testing" && !f.test && !strings.HasSuffix(f.pkg, "test"):
			fault(imp, "testing stands in *test packages and _test.go files only")
		case strings.HasPrefix(imp, "github.com/stretchr/testify") && !f.test:
			fault(imp, "testify stands in _test.go files only")
		case !ours:
			for dep, where := range heavy {
				if within(imp, dep) && !anyWithin(f.pkg, where) {
					fault(imp, "a heavy dependency, for "+strings.Join(where, ", ")+" only")
				}
			}
		case f.test || within(f.pkg, "examples"):
			// Tests and examples join anything, but nobody imports an example.
			if within(local, "examples") && !within(f.pkg, "examples") {
				fault(imp, "examples are programs")
			}
		default:
			if why := forbidden(f.pkg, local); why != "" {
				fault(imp, why)
			}
		}
	}
	return faults
}

// forbidden tells why production code of pkg must not import the module's package imp.
func forbidden(pkg, imp string) string {
	switch {
	case within(imp, "examples"):
		return "examples are programs"
	case imp == "internal" || within(imp, "internal"):
		return ""
	case strings.HasSuffix(imp, "test") && !strings.HasSuffix(pkg, "test"):
		return "production code never imports a *test package"
	case within(pkg, "internal"):
		return "internal knows none of the packages that use it"
	}
	if allowed, ok := bridges[pkg]; ok {
		if !anyWithin(imp, allowed) {
			return "not one of the packages this bridge joins"
		}
		return ""
	}
	for _, s := range stores {
		if within(pkg, s) && imp != "imap" && !within(imp, s) {
			return "a store knows the imap root only"
		}
	}
	if anyWithin(imp, stores) && !anyWithin(pkg, stores) {
		return "nobody but the embedder picks a store"
	}
	if anyWithin(pkg, stores) && anyWithin(imp, servers) {
		return "stores never know servers"
	}
	top, impTop := topOf(pkg), topOf(imp)
	switch {
	case slices.Contains(roots, pkg):
		return "this root knows nothing of the module but internal/"
	case pkg == "dnsauth":
		if impTop != "dnsauth" {
			return "dnsauth fronts its leaves and nothing else"
		}
	case top == "dnsauth":
		if imp != "dnsauth/resolver" && !within(imp, "dnsauth/internal") && !slices.Contains(leaves[pkg], imp) && !within(imp, pkg) {
			return "a leaf of dnsauth knows the resolver only, and dnsauth/internal"
		}
	case top != impTop && !anyWithin(pkg, stores):
		return "only the named bridges join top-level packages"
	case imp != pkg && within(imp, pkg):
		return "a parent never imports its child"
	}
	return ""
}

func topOf(pkg string) string {
	top, _, _ := strings.Cut(pkg, "/")
	return top
}

func within(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

func anyWithin(pkg string, folders []string) bool {
	for _, f := range folders {
		if within(pkg, f) {
			return true
		}
	}
	return false
}
