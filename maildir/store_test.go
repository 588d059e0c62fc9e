package maildir_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/storetest"
	"github.com/mailblocks/mailblocks/maildir"
)

func open(t testing.TB) storetest.Open {
	root := filepath.Join(t.TempDir(), "mail")
	return func() (imap.Store, error) { return maildir.Open(root, nil) }
}

// openApart gives each Store another path to the same tree, so that they share nothing in
// memory: what one knows of the other comes from the files, as between two processes.
func openApart(t testing.TB) storetest.Open {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	n := 0
	return func() (imap.Store, error) {
		n++
		root := filepath.Join(dir, fmt.Sprint("alias", n))
		if err := os.Symlink("mail", root); err != nil {
			return nil, err
		}
		return maildir.Open(root, nil)
	}
}

func openSingle(t testing.TB) storetest.Open {
	root := filepath.Join(t.TempDir(), "mail")
	return func() (imap.Store, error) { return maildir.Open(root, &maildir.Options{SingleWriter: true}) }
}

func TestStore(t *testing.T)             { storetest.Test(t, open) }
func TestStoreApart(t *testing.T)        { storetest.Test(t, openApart) }
func TestStoreSingleWriter(t *testing.T) { storetest.Test(t, openSingle) }

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, open) }
