// Package disktest plays back the changes that package disk told of, up to any of them, as a
// power cut may leave them: all that was synced, and of the rest any part.
//
// What it takes for legal: a change of a folder's names is whole or not there (file systems
// with a journal keep that), durable once a folder it names is synced, and implies the changes
// of the same name or file before it. A write to a file is durable once that file is synced;
// until then it may be missing or torn, whatever became of the writes behind it. A file's
// sync says nothing of its name.
package disktest

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/internal/disk"
)

// A Recording is all that was changed below a folder that was empty at first.
type Recording struct {
	root string
	ops  []op
	stop func()
}

type op struct {
	disk.Op
	needs   []int // earlier ones without which it can not be
	durable int   // the op that made it so; never() when none did
}

const never = 1 << 30

// Record begins a recording of the changes below root, which must be empty.
func Record(t testing.TB, root string) *Recording {
	r := &Recording{root: filepath.Clean(root)}
	open := make(map[uint64]bool)
	r.stop = disk.Trace(func(o disk.Op) {
		if o.Path != "" && !r.below(o.Path) || o.Path == "" && !open[o.File] {
			return
		}
		if o.File != 0 {
			open[o.File] = true
		}
		o.Data = slices.Clone(o.Data)
		if o.Time.IsZero() {
			o.Time = time.Now()
		}
		r.ops = append(r.ops, op{Op: o})
	})
	t.Cleanup(r.stop)
	return r
}

func (r *Recording) below(path string) bool {
	return path == r.root || strings.HasPrefix(path, r.root+string(filepath.Separator))
}

// Stop ends the recording. Crashes may be called then, also in parallel.
func (r *Recording) Stop() {
	r.stop()
	r.prepare()
}

// Len is the number of changes so far.
func (r *Recording) Len() int { return len(r.ops) }

// A node is a file or a folder as it is played back.
type node struct {
	data    []byte
	entries map[string]*node // of a folder
	time    time.Time
}

// playback is the disk after some ops.
type playback struct {
	root *node
	open map[uint64]*node
}

func newPlayback() *playback {
	return &playback{&node{entries: make(map[string]*node)}, make(map[uint64]*node)}
}

// at returns the folder that path is in, nil when it is not there, and the name in it.
func (p *playback) at(rel string) (dir *node, name string) {
	dir = p.root
	levels := strings.Split(rel, string(filepath.Separator))
	for _, level := range levels[:len(levels)-1] {
		if dir = dir.entries[level]; dir == nil {
			return nil, ""
		}
	}
	return dir, levels[len(levels)-1]
}

// apply does one op; of a write half may be missing.
func (r *Recording) apply(p *playback, o disk.Op, how fate) {
	rel := func(path string) string {
		s, _ := filepath.Rel(r.root, path)
		return s
	}
	if o.Kind == disk.KindSyncDir || o.Kind == disk.KindSync {
		return
	}
	if o.Path == "" {
		n := p.open[o.File]
		if n == nil {
			return // its making was lost
		}
		switch o.Kind {
		case disk.KindWrite:
			off, data := o.Off, o.Data
			switch half := len(data) / 2; how {
			case tear:
				data = data[:half]
			case hole:
				off, data = off+int64(half), data[half:]
			}
			if need := off + int64(len(data)) - int64(len(n.data)); need > 0 {
				n.data = append(n.data, make([]byte, need)...)
			}
			copy(n.data[off:], data)
			n.time = o.Time
		case disk.KindTruncate:
			n.data = append(n.data[:min(o.Off, int64(len(n.data)))], make([]byte, max(0, o.Off-int64(len(n.data))))...)
		}
		return
	}
	if rel(o.Path) == "." {
		return
	}
	dir, name := p.at(rel(o.Path))
	if dir == nil || dir.entries == nil {
		return
	}
	n := dir.entries[name]
	switch o.Kind {
	case disk.KindCreate, disk.KindOpen:
		if n == nil && o.Kind == disk.KindCreate {
			n = &node{time: o.Time}
			dir.entries[name] = n
		}
		p.open[o.File] = n
	case disk.KindMkdir:
		if n == nil {
			dir.entries[name] = &node{entries: make(map[string]*node)}
		}
	case disk.KindChtimes:
		if n != nil {
			n.time = o.Time
		}
	case disk.KindRemove, disk.KindRemoveAll:
		delete(dir.entries, name)
	case disk.KindLink, disk.KindRename:
		to, toName := p.at(rel(o.To))
		if n == nil || to == nil || to.entries == nil {
			return
		}
		if o.Kind == disk.KindRename {
			delete(dir.entries, name)
		}
		to.entries[toName] = n
	}
}

// prepare finds out what each op needs, and what made it durable.
func (r *Recording) prepare() {
	p := newPlayback()
	lastOfName := make(map[string]int)
	lastOfNode := make(map[*node]int) // changes of its names
	writes := make(map[*node][]int)   // not synced
	folder := make(map[*node][]int)   // changes of names, not synced
	var pin func(i, at int)           // op at made op i durable
	pin = func(i, at int) {
		if r.ops[i].durable <= at {
			return
		}
		r.ops[i].durable = at
		for _, n := range r.ops[i].needs {
			pin(n, at)
		}
	}
	find := func(path string) (dir, n *node) {
		rel, _ := filepath.Rel(r.root, path)
		if rel == "." {
			return nil, p.root
		}
		dir, name := p.at(rel)
		if dir == nil {
			return nil, nil
		}
		return dir, dir.entries[name]
	}
	for i := range r.ops {
		o := &r.ops[i]
		o.durable, o.needs = never, nil
		switch {
		case o.Kind == disk.KindSyncDir:
			_, n := find(o.Path)
			for _, j := range folder[n] {
				pin(j, i)
			}
			delete(folder, n)
		case o.Kind == disk.KindSync:
			n := p.open[o.File]
			for _, j := range writes[n] {
				pin(j, i)
			}
			delete(writes, n)
		case o.Kind == disk.KindWrite || o.Kind == disk.KindTruncate:
			n := p.open[o.File]
			if o.Off < 0 {
				o.Off = int64(len(n.data))
			}
			writes[n] = append(writes[n], i)
		case o.Kind == disk.KindChtimes:
			if _, n := find(o.Path); n != nil {
				writes[n] = append(writes[n], i)
			}
		case o.Kind != disk.KindOpen:
			dir, n := find(o.Path)
			if o.Kind == disk.KindCreate && n != nil {
				break // it was there
			}
			paths := []string{o.Path}
			touched := []*node{dir}
			if o.To != "" {
				to, _ := find(o.To)
				paths, touched = append(paths, o.To), append(touched, to)
			}
			for _, path := range paths {
				if j, ok := lastOfName[path]; ok {
					o.needs = append(o.needs, j)
				}
				lastOfName[path] = i
			}
			if j, ok := lastOfNode[n]; ok && n != nil {
				o.needs = append(o.needs, j)
			}
			for _, d := range touched {
				folder[d] = append(folder[d], i)
			}
			r.apply(p, o.Op, keep)
			if n == nil {
				_, n = find(o.Path)
			}
			lastOfNode[n] = i
			continue
		}
		r.apply(p, o.Op, keep)
	}
}

// Crashes calls check for each disk that a power cut behind the first n changes may leave, for
// n from first to last: folder holds it, and is emptied after the call. What is not synced is
// dropped in every way where it is little, else one by one, all but one, all, none, and some
// at random; of these ways most for each n, all where most is zero. Disks that are the same are
// shown once for each n.
func (r *Recording) Crashes(t testing.TB, folder string, first, last, most int, check func(n int, what string)) (shown int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	seed := maphash.MakeSeed()
	for n := first; n <= last; n++ {
		var loose []int
		for i, o := range r.ops[:n] {
			if o.durable >= n && o.Kind != disk.KindSync && o.Kind != disk.KindSyncDir && o.Kind != disk.KindOpen {
				loose = append(loose, i)
			}
		}
		seen := make(map[uint64]bool)
		ways := r.choices(loose, rnd)
		if most > 0 && len(ways) > most {
			rnd.Shuffle(len(ways)-2, func(i, j int) { ways[i+2], ways[j+2] = ways[j+2], ways[i+2] })
			ways = ways[:most]
		}
		for _, c := range ways {
			p := newPlayback()
			var gone []string
			lost := make(map[int]bool)
			for i, o := range r.ops[:n] {
				how := c[i]
				if slices.ContainsFunc(o.needs, func(j int) bool { return lost[j] }) && o.durable >= n {
					how = drop
				}
				if how != keep {
					gone = append(gone, fmt.Sprintf("%d %s %s %s", i, o.Kind, filepath.Base(o.Path), o.To))
				}
				if how == drop {
					lost[i] = true
					if o.Kind == disk.KindCreate {
						// What is written to it has no name.
						p.open[o.File] = &node{}
					}
					continue
				}
				r.apply(p, o.Op, how)
			}
			var h maphash.Hash
			h.SetSeed(seed)
			p.root.hash(&h, "", make(map[*node]int))
			if sum := h.Sum64(); seen[sum] {
				continue
			} else {
				seen[sum] = true
			}
			if err := build(p.root, folder, make(map[*node]string)); err != nil {
				t.Fatal(err)
			}
			shown++
			check(n, "without "+strings.Join(gone, ", "))
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				for i := max(0, n-40); i < n; i++ {
					o := r.ops[i]
					t.Logf("%4d %s %s %s file %d off %d %.60q (durable by %d)", i, o.Kind, strings.TrimPrefix(o.Path, r.root), strings.TrimPrefix(o.To, r.root), o.File, o.Off, o.Data, o.durable)
				}
				return shown
			}
		}
	}
	return shown
}

type fate byte

const (
	keep fate = iota
	drop
	tear // of a write only the first half is there
	hole // or only the second
)

// choices returns what may become of the loose ops.
func (r *Recording) choices(loose []int, rnd *rand.Rand) (list []map[int]fate) {
	var with func(m map[int]fate, i int)
	with = func(m map[int]fate, i int) { // i and what it needs
		m[i] = keep
		for _, j := range r.ops[i].needs {
			with(m, j)
		}
	}
	all := func(f fate) map[int]fate {
		m := make(map[int]fate)
		for _, i := range loose {
			m[i] = f
		}
		return m
	}
	list = append(list, all(keep), all(drop))
	if len(loose) <= 5 {
		for bits := range 1 << len(loose) {
			m := make(map[int]fate)
			for k, i := range loose {
				m[i] = fate(bits >> k & 1)
			}
			list = append(list, m)
		}
	} else {
		for range 6 {
			m := make(map[int]fate)
			for _, i := range loose {
				m[i] = fate(rnd.IntN(2))
			}
			list = append(list, m)
		}
	}
	for _, i := range loose {
		one, but, torn, only, holed := all(keep), all(drop), all(keep), all(drop), all(keep)
		with(but, i)
		with(only, i)
		one[i], torn[i], only[i], holed[i] = drop, tear, tear, hole
		list = append(list, one, but, torn, only, holed)
	}
	return list
}

// hash adds what is below n to h; files of several names are told apart from equal ones.
func (n *node) hash(h *maphash.Hash, path string, met map[*node]int) {
	if n.entries == nil {
		if _, ok := met[n]; !ok {
			met[n] = len(met)
		}
		fmt.Fprintf(h, "%q %d %q\n", path, met[n], n.data)
		return
	}
	fmt.Fprintf(h, "%q/\n", path)
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		n.entries[name].hash(h, path+"/"+name, met)
	}
}

// build makes n at path.
func build(n *node, path string, made map[*node]string) error {
	if n.entries == nil {
		if first, ok := made[n]; ok {
			return os.Link(first, path)
		}
		made[n] = path
		if err := os.WriteFile(path, n.data, 0o600); err != nil || n.time.IsZero() {
			return err
		}
		return os.Chtimes(path, n.time, n.time)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for name, child := range n.entries {
		if err := build(child, filepath.Join(path, name), made); err != nil {
			return err
		}
	}
	return nil
}
