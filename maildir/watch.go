package maildir

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// notify is what all folders and trees of the process are watched with: one inotify instance, of
// which a user has few.
var notify notifier

// A waker is told of changes in the folders that it has watched.
type waker interface {
	// concerned reports whether a change of this name in a folder is worth a wake.
	concerned(dir, name string) bool
	wake()
}

// concerned is what other programs do in new/ and cur/, other processes of ours in the index,
// and the end of the folder.
func (f *folder) concerned(dir, name string) bool {
	return dir == "new" || dir == "cur" || name == indexFile || name == "new" || name == "cur"
}

// names wakes who waits for changes of a tree's names, uses and subscriptions.
type names struct{ call func() }

func (n *names) concerned(_, name string) bool {
	return name == subscriptionsFile || name == specialUseFile || strings.HasPrefix(name, ".")
}

func (n *names) wake() { n.call() }

// WatchNames implements imap.StoreWatcher.
func (s *Store) WatchNames(ctx context.Context, wake func()) error {
	return notify.watch(ctx, &names{wake}, s.opts.logger(), s.root)
}

// A notifier tells its wakers. It runs while anything is watched.
type notifier struct {
	mu      sync.Mutex
	watcher *fsnotify.Watcher   // nil: nothing is watched
	paths   map[string]*watched // by folder watched
}

type watched struct {
	wakers map[waker]int // how many Watch calls
}

// pollEvery is how often a watched folder is looked at where the system tells us nothing, or
// may have told us nothing.
const pollEvery = 10 * time.Second

// watch wakes w when one of dirs changes, until ctx ends.
func (n *notifier) watch(ctx context.Context, w waker, log *slog.Logger, dirs ...string) error {
	n.mu.Lock()
	for _, dir := range dirs {
		if err := n.add(dir, w); err != nil {
			// No inotify left: polling does it, later.
			log.Warn("maildir watched by polling", "dir", dir, "err", err)
		}
	}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, dir := range dirs {
			n.remove(dir, w)
		}
	}()
	w.wake() // for what happened just before
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			w.wake()
		}
	}
}

// add has dir watched for who. n.mu is held.
func (n *notifier) add(dir string, who waker) error {
	if n.watcher == nil {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return err
		}
		n.watcher, n.paths = w, make(map[string]*watched)
		go n.run(w)
	}
	w := n.paths[dir]
	if w == nil {
		if err := n.watcher.Add(dir); err != nil {
			return err
		}
		w = &watched{wakers: make(map[waker]int)}
		n.paths[dir] = w
	}
	w.wakers[who]++
	return nil
}

// remove undoes add. The last one ends the watcher. n.mu is held.
func (n *notifier) remove(dir string, who waker) {
	w := n.paths[dir]
	if w == nil || w.wakers[who] == 0 {
		return
	}
	if w.wakers[who]--; w.wakers[who] > 0 {
		return
	}
	delete(w.wakers, who)
	if len(w.wakers) > 0 {
		return
	}
	delete(n.paths, dir)
	_ = n.watcher.Remove(dir) // fails when the folder has gone, and with it the watch
	if len(n.paths) == 0 {
		n.watcher.Close()
		n.watcher = nil
	}
}

// run hands events on until w is closed.
func (n *notifier) run(w *fsnotify.Watcher) {
	for {
		select {
		case ev, ok := <-w.Events:
			if !ok {
				return
			}
			n.tell(filepath.Dir(ev.Name), ev.Name)
		case _, ok := <-w.Errors:
			if !ok {
				return
			}
			n.tellAll() // events were lost
		}
	}
}

func (n *notifier) tell(dir, name string) {
	sub, base := filepath.Base(dir), filepath.Base(name)
	n.wake(func(yield func(waker)) {
		if w := n.paths[dir]; w != nil {
			for who := range w.wakers {
				if who.concerned(sub, base) {
					yield(who)
				}
			}
		}
	})
}

func (n *notifier) tellAll() {
	n.wake(func(yield func(waker)) {
		for _, w := range n.paths {
			for who := range w.wakers {
				yield(who)
			}
		}
	})
}

// wake wakes whom choose yields, which runs under n.mu.
func (n *notifier) wake(choose func(yield func(waker))) {
	var chosen []waker
	n.mu.Lock()
	choose(func(w waker) { chosen = append(chosen, w) })
	n.mu.Unlock()
	for _, w := range chosen {
		w.wake()
	}
}
