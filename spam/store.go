package spam

import (
	"context"
	"errors"
	"iter"
	"time"
)

// A Cell is one place of a model, and also a change of it: models are sums of cells, so two
// writers never overwrite each other and a shared store needs no locks.
type Cell struct {
	Index     uint32  // which place; the classifier gives it its meaning
	Ham, Spam int32   // messages of each class
	Weight    float32 // a weight of the regression
	Square    float32 // the sum of its squared gradients
}

// ErrTooOld is returned by [Store.Load] when the store no longer knows what changed since the
// given position. The caller loads everything.
var ErrTooOld = errors.New("spam: changes that far back were merged")

// A Store keeps what was learned. Names of models are arbitrary strings; "" is the model that
// all users share. Stores are safe for concurrent use, and several may be open on one storage,
// in one process or many. Package spamtest proves an implementation.
type Store interface {
	// Load yields cells of a model and the position they lead to. Cells may repeat an
	// index: their sum counts. Since 0 means everything ever added, by this Store or
	// another; any other position, as an earlier Load returned it, means what other Stores
	// added since (this Store's own additions are known to the caller). ErrTooOld: load
	// from 0. Breaking off the iteration is allowed.
	Load(ctx context.Context, model string, since uint64) (cells iter.Seq2[Cell, error], position uint64, err error)

	// Add adds deltas to a model. It may return before they are durable or seen by other
	// Stores, but not for longer than a second. Deltas are not kept by the store.
	Add(ctx context.Context, model string, deltas []Cell) error

	// SetSeen records under which label a message of this id was learned, and returns what
	// was recorded before. Unlabelled forgets the id. After ttl the store may forget it, too;
	// ttl <= 0 means never. A mark is never durable without the deltas that were added
	// before it, and becomes durable as soon as they do.
	SetSeen(ctx context.Context, model, id string, l Label, ttl time.Duration) (before Label, err error)
}

// A Syncer is a Store that can be asked to make what was added durable now, and to show it to
// other Stores.
type Syncer interface {
	Sync(ctx context.Context) error
}

// Sync makes what was added to s durable, where s can; other stores do within a second.
func Sync(ctx context.Context, s Store) error {
	if s, ok := s.(Syncer); ok {
		return s.Sync(ctx)
	}
	return nil
}

// A Keeper is a Store that also keeps a few thousand pieces of a few KiB for each model: the
// classifier's memory of single messages, without which it learns less well when all ham comes
// before all spam.
type Keeper interface {
	// Keep replaces what is kept in a slot; nil empties it. It is as durable as Add.
	Keep(ctx context.Context, model string, slot uint32, data []byte) error
	// Kept yields what is kept, in any order.
	Kept(ctx context.Context, model string) (iter.Seq2[uint32, []byte], error)
}

// ErrNoSnapshot is returned for the name of a snapshot that does not exist.
var ErrNoSnapshot = errors.New("spam: no such snapshot")

// A Snapshotter is a Store that can keep all it has under a name, and go back to it: models
// of all users, what is kept, and the marks of what was learned. The names consist of up to 100
// letters, digits, "-", "_" and ".", and do not begin with ".".
type Snapshotter interface {
	// Snapshot keeps the state of now, durably, in the place of an earlier one of this name.
	Snapshot(ctx context.Context, name string) error
	// Restore makes a snapshot the state of now, durably; what was learned since is gone.
	// Other Stores on the storage see it as soon as what was learned: Load from a position
	// before fails with ErrTooOld. ErrNoSnapshot: nothing has changed.
	Restore(ctx context.Context, name string) error
	// Snapshots lists the snapshots, the oldest first.
	Snapshots(ctx context.Context) ([]SnapshotInfo, error)
	// RemoveSnapshot removes one. ErrNoSnapshot: there is none of this name.
	RemoveSnapshot(ctx context.Context, name string) error
}

// SnapshotInfo describes a snapshot.
type SnapshotInfo struct {
	Name string
	Time time.Time // when it was made
}

// A KV is all that greylisting, rate limits and reputation need of a storage: a map whose
// values change atomically. It is safe for concurrent use.
type KV interface {
	// Update replaces the value at key by f(old). Old is nil when there is none or it was
	// set longer than its ttl ago; f returns nil to remove the key. F may run more than once
	// and must not keep or change old. A ttl <= 0 never ends.
	Update(ctx context.Context, key string, ttl time.Duration, f func(old []byte) []byte) error
}
