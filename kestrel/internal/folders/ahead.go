// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Listings that are fetched or wait for somebody to ask for them, and folders that are to follow.
	mostFetched = 16
	mostQueued  = 4096
	// Who has read that many folders, one soon after the other, is taken for somebody who walks through all of them.
	walkFolders = 3
	walkPause   = 2 * time.Second
	// How long a listing waits for somebody; then others get its place.
	fetchedTime = 5 * time.Second
)

// ahead fetches listings of folders before anybody asks for them: on a busy host the way there and back takes longer than
// everything else, and many can go it together. Whatever changes, by the guest's hand or the host's, drops them all.
type ahead struct {
	fetch func(path string) (entries []entry, told uint8, errno syscall.Errno)

	changes atomic.Uint64 // counts them

	mutex  sync.Mutex
	known  map[string]*fetched
	queue  []string
	loads  int
	lastAt time.Time
}

type fetched struct {
	done    chan struct{}
	since   time.Time
	entries []entry
	told    uint8
	errno   syscall.Errno
}

// forget drops everything.
func (a *ahead) forget() {
	a.changes.Add(1)
	a.mutex.Lock()
	defer a.mutex.Unlock()
	clear(a.known)
	a.queue = nil
}

// take is the listing of a folder if it was fetched and nothing has changed since it was asked for.
func (a *ahead) take(path string) ([]entry, uint8, bool) {
	a.mutex.Lock()
	found := a.known[path]
	delete(a.known, path)
	a.mutex.Unlock()
	if found == nil {
		return nil, 0, false
	}
	<-found.done
	return found.entries, found.told, found.errno == 0 && found.told&listWatched != 0
}

// note says that a folder was read, with what is in it.
func (a *ahead) note(path string, entries []entry) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	now := time.Now()
	if now.Sub(a.lastAt) > walkPause {
		a.loads = 0
	}
	a.loads++
	a.lastAt = now
	if a.loads < walkFolders {
		return
	}
	var below []string
	for _, each := range entries {
		if each.attributes.mode&unix.S_IFMT == unix.S_IFDIR {
			below = append(below, join(path, each.name))
		}
	}
	// What is below a folder comes before what is beside it.
	a.queue = append(below, a.queue...)
	a.queue = a.queue[:min(len(a.queue), mostQueued)]
	a.start(now)
}

func (a *ahead) start(now time.Time) {
	for path, each := range a.known {
		if now.Sub(each.since) > fetchedTime {
			delete(a.known, path)
		}
	}
	for len(a.queue) > 0 && len(a.known) < mostFetched {
		path := a.queue[0]
		a.queue = a.queue[1:]
		if a.known[path] != nil {
			continue
		}
		made := &fetched{done: make(chan struct{}), since: now}
		a.known[path] = made
		go func() {
			defer close(made.done)
			made.entries, made.told, made.errno = a.fetch(path)
		}()
	}
}

// fetchAhead is what fetches: a folder that does not fit into one answer is left to who wants it.
func (f *Folder) fetchAhead(path string) ([]entry, uint8, syscall.Errno) {
	entries, told, errno := f.listPart(context.Background(), path, 0)
	if errno == 0 && told&listMore != 0 {
		errno = syscall.EFBIG
	}
	sortEntries(entries)
	return entries, told, errno
}

func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}
