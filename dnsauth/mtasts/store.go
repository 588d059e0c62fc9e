package mtasts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// Entry is what is kept about a domain.
type Entry struct {
	ID      string    `json:"id"`      // of the record under which the policy was fetched
	Policy  string    `json:"policy"`  // its text; empty when none could be had yet
	Fetched time.Time `json:"fetched"` // when

	// The last attempt that failed: when, and the record's id then.
	Failed   time.Time `json:"failed,omitzero"`
	FailedID string    `json:"failed_id,omitempty"`
}

// Store keeps entries by domain, in lower case and A-labels. Policies protect
// best when they survive a restart: an attacker who can suppress the TXT
// record has its chance whenever a domain is not remembered. A Store is safe for
// concurrent use.
type Store interface {
	// Load returns the entry of a domain, nil without one.
	Load(ctx context.Context, domain string) (*Entry, error)
	// Save replaces the entry of a domain.
	Save(ctx context.Context, domain string, e *Entry) error
}

// Memory is a Store in memory. Its zero value is ready to use.
type Memory struct {
	// Max is how many domains are remembered; zero means 10,000.
	Max int

	mu      sync.Mutex
	entries map[string]*Entry
}

var _ Store = (*Memory)(nil)

// Load implements Store.
func (m *Memory) Load(_ context.Context, domain string) (*Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[domain], nil
}

// Save implements Store.
func (m *Memory) Save(_ context.Context, domain string, e *Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = make(map[string]*Entry)
	}
	limit := m.Max
	if limit <= 0 {
		limit = 10000
	}
	if m.entries[domain] == nil {
		// Go's map order is random enough to pick what to forget.
		for old := range m.entries {
			if len(m.entries) < limit {
				break
			}
			delete(m.entries, old)
		}
	}
	m.entries[domain] = e
	return nil
}

// Dir is a Store of one JSON file for each domain in an existing folder.
type Dir string

var _ Store = Dir("")

func (d Dir) path(domain string) (string, error) {
	name := domain + ".json"
	if !isPattern(domain) || !filepath.IsLocal(name) || len(name) > 255 {
		return "", fmt.Errorf("mtasts: %q can not be a file's name", domain)
	}
	return filepath.Join(string(d), name), nil
}

// Load implements Store. A file that can not be read as JSON counts as none.
func (d Dir) Load(_ context.Context, domain string) (*Entry, error) {
	path, err := d.path(domain)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mtasts: load %s: %w", domain, err)
	}
	e := new(Entry)
	if json.Unmarshal(text, e) != nil {
		return nil, nil
	}
	return e, nil
}

// Save implements Store.
func (d Dir) Save(_ context.Context, domain string, e *Entry) error {
	path, err := d.path(domain)
	if err != nil {
		return err
	}
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("mtasts: save %s: %w", domain, err)
	}
	if err := atomicfile.Write(path, text, 0o644); err != nil {
		return fmt.Errorf("mtasts: save %s: %w", domain, err)
	}
	return nil
}
