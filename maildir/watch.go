package maildir

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// notify is what all folders of the process are watched with: one inotify instance, of
// which a user has few.
var notify notifier

// A notifier tells folders of what other programs do in new/ and cur/, and other processes of
// ours in the index. It runs while anything is watched.
type notifier struct {
	mu      sync.Mutex
	watcher *fsnotify.Watcher   // nil: nothing is watched
	paths   map[string]*watched // by folder watched
}

type watched struct {
	folders map[*folder]int // how many Watch calls
}

// pollEvery is how often a watched folder is looked at where the system tells us nothing, or
// may have told us nothing.
const pollEvery = 10 * time.Second

// watch wakes f's watchers when its files change, until ctx ends.
func (n *notifier) watch(ctx context.Context, f *folder) error {
	dirs := []string{filepath.Join(string(f.dir), "new"), filepath.Join(string(f.dir), "cur"), string(f.dir)}
	n.mu.Lock()
	for _, dir := range dirs {
		if err := n.add(dir, f); err != nil {
			// No inotify left: polling does it, later.
			f.opts.logger().Warn("maildir watched by polling", "dir", dir, "err", err)
		}
	}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, dir := range dirs {
			n.remove(dir, f)
		}
	}()
	f.wake() // for what happened just before
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			f.wake()
		}
	}
}

// add has dir watched for f. n.mu is held.
func (n *notifier) add(dir string, f *folder) error {
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
		w = &watched{folders: make(map[*folder]int)}
		n.paths[dir] = w
	}
	w.folders[f]++
	return nil
}

// remove undoes add. The last one ends the watcher. n.mu is held.
func (n *notifier) remove(dir string, f *folder) {
	w := n.paths[dir]
	if w == nil || w.folders[f] == 0 {
		return
	}
	if w.folders[f]--; w.folders[f] > 0 {
		return
	}
	delete(w.folders, f)
	if len(w.folders) > 0 {
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
	// In the folder itself only the index counts, and the end of the folder.
	if sub := filepath.Base(name); filepath.Base(dir) != "new" && filepath.Base(dir) != "cur" &&
		sub != indexFile && sub != "new" && sub != "cur" {
		return
	}
	n.mu.Lock()
	var folders []*folder
	if w := n.paths[dir]; w != nil {
		for f := range w.folders {
			folders = append(folders, f)
		}
	}
	n.mu.Unlock()
	for _, f := range folders {
		f.wake()
	}
}

func (n *notifier) tellAll() {
	n.mu.Lock()
	var folders []*folder
	for _, w := range n.paths {
		for f := range w.folders {
			folders = append(folders, f)
		}
	}
	n.mu.Unlock()
	for _, f := range folders {
		f.wake()
	}
}
