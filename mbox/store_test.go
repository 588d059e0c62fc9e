//go:build unix

package mbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/storetest"
)

const dirName = "mBoX-MeSsAgEs"

// opener opens one tree again and again; apart: so that the Stores share nothing in memory, and
// what one knows of the other comes from the files, as between two processes.
func opener(opts Options) func(t testing.TB) storetest.Open {
	return func(t testing.TB) storetest.Open {
		root := filepath.Join(t.TempDir(), "mail")
		return func() (imap.Store, error) { return Open(root, &opts) }
	}
}

func TestStore(t *testing.T)      { storetest.Test(t, opener(Options{DirName: dirName})) }
func TestStoreApart(t *testing.T) { storetest.Test(t, opener(Options{DirName: dirName, apart: true})) }
func TestStoreQuoting(t *testing.T) {
	storetest.Test(t, opener(Options{DirName: dirName, Dialect: RD}))
}

// Without DirName a mailbox can not have children, which some tests of the suite want.
func TestStoreFiles(t *testing.T) {
	if os.Getenv("MBOX_TEST_FILES") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStoreFiles$", "-test.skip=^TestStoreFiles$/^Names$/^(Levels|RenameTree)$")
		cmd.Env = append(os.Environ(), "MBOX_TEST_FILES=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return
	}
	storetest.Test(t, opener(Options{}))
}

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, opener(Options{DirName: dirName})) }
