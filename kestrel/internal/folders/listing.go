// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"sync"
	"syscall"
	"time"
)

const (
	// How long the kernel may keep what the host watches, which tells of every change, and what it does not.
	watchedTime   = time.Hour
	unwatchedTime = time.Second
	// Of all listings together; where there are more, those that come are not kept.
	mostEntries = 200_000
)

// listing is what is known of a folder: all of it is fetched with the first name that somebody asks for.
type listing struct {
	mutex    sync.Mutex
	loading  sync.Mutex // one fetches
	version  uint64     // counts whatever happens to the folder
	loaded   bool
	watched  bool
	loadedAt time.Time
	counted  int                    // of the names, in the counter of all listings
	names    map[string]*Attributes // nil: a name about which the host must be asked
}

type entry struct {
	name       string
	attributes Attributes
}

// forget drops everything.
func (l *listing) forget(total *counter) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.version++
	total.add(-l.counted)
	l.loaded, l.names, l.counted = false, nil, 0
}

// doubt has the host asked about a name the next time.
func (l *listing) doubt(name string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.version++
	if l.loaded {
		l.names[name] = nil
	}
}

// remove notes that a name is gone.
func (l *listing) remove(name string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.version++
	delete(l.names, name)
}

// find is what the listing knows of a name; sure: it need not be asked for.
func (l *listing) find(name string) (found *Attributes, sure, watched bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if !l.isFresh() {
		return nil, false, l.watched && l.loaded
	}
	found, there := l.names[name]
	return found, !there || found != nil, l.watched
}

// all is the whole listing where it has no gaps.
func (l *listing) all() ([]entry, bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if !l.isFresh() {
		return nil, false
	}
	entries := make([]entry, 0, len(l.names))
	for name, attributes := range l.names {
		if attributes == nil {
			return nil, false
		}
		entries = append(entries, entry{name, *attributes})
	}
	return entries, true
}

func (l *listing) isFresh() bool {
	return l.loaded && (l.watched || time.Since(l.loadedAt) < unwatchedTime)
}

// load fetches the folder where that has not been done, and returns what is there now.
func (l *listing) load(ctx context.Context, folder *Folder, path func() (string, syscall.Errno)) ([]entry, syscall.Errno) {
	l.loading.Lock()
	defer l.loading.Unlock()
	if entries, whole := l.all(); whole {
		return entries, 0
	}
	l.mutex.Lock()
	before := l.version
	l.mutex.Unlock()
	place, errno := path()
	if errno != 0 {
		return nil, errno
	}
	entries, watched, errno := folder.list(ctx, place)
	if errno != 0 {
		return nil, errno
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.version == before && folder.entries.hasRoom(len(entries)-l.counted, mostEntries) {
		folder.entries.add(len(entries) - l.counted)
		l.counted = len(entries)
		l.names = make(map[string]*Attributes, len(entries))
		for index := range entries {
			l.names[entries[index].name] = &entries[index].attributes
		}
		l.loaded, l.watched, l.loadedAt = true, watched, time.Now()
	}
	return entries, 0
}

// counter counts what several listings hold.
type counter struct {
	mutex sync.Mutex
	value int
}

func (c *counter) add(number int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.value += number
}

func (c *counter) hasRoom(number, most int) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.value+number <= most
}
