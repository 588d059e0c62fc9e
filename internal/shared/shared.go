// Package shared finds the folder of corpora and conformance suites that stands beside a
// checkout of the project in CI. It is no part of the repository.
package shared

import (
	"os"
	"path/filepath"
)

// T is what Path needs of a *testing.T.
type T interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Path returns the path of ../shared/elem... as seen from the module's root. It skips the
// test when that is not there, as in a user's clone.
func Path(t T, elem ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("shared: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Skipf("shared: not inside the module")
		}
		dir = parent
	}
	path := filepath.Join(append([]string{dir, "..", "shared"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		Missing(t, filepath.Join(append([]string{"..", "shared"}, elem...)...))
	}
	return path
}

// Missing skips a test for want of a peer program or a folder of test data. Where
// MAILBLOCKS_PEERS says "required", as in CI, it fails the test instead.
func Missing(t T, what string) {
	t.Helper()
	if os.Getenv("MAILBLOCKS_PEERS") == "required" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is not here", what)
}
