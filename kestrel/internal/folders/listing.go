// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"slices"
	"strings"
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
	// The kernel keeps which names a folder has by the folder's time, and finds its place again by a number. So it may do
	// that only for a folder that is read by one call, and that has not changed for longer than the coarsest clock of a
	// file system would tell.
	mostKept   = 500
	settleTime = 3 * time.Second
	// A folder is read ahead once one of so many of its names was asked for, but not for the first: that may be somebody
	// who is only passing through. Of a few names each can be asked for.
	namesAhead = 32
	fewNames   = 8
	// In a folder, of which the kernel keeps that they are not there.
	mostAbsent = 1000
)

// listing is what is known of a folder: all of it is fetched with the first name that somebody asks for.
type listing struct {
	ahead    *ahead // what must not outlive a change
	mutex    sync.Mutex
	loading  sync.Mutex // one fetches
	version  uint64     // counts whatever happens to the folder
	loaded   bool
	watched  bool
	loadedAt time.Time
	changed  time.Time              // when a name came or went; zero: long ago
	asked    int                    // how many of the names were asked for one by one
	given    bool                   // the kernel has been given all of them, or is being
	absent   map[string]struct{}    // names of which the kernel keeps that they are not there
	counted  int                    // of the names, in the counter of all listings
	names    map[string]*Attributes // nil: a name about which the host must be asked
}

type entry struct {
	name       string
	attributes Attributes
}

// forget drops everything.
func (l *listing) forget(total *counter) {
	l.ahead.forget()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.version++
	total.add(-l.counted)
	l.loaded, l.names, l.counted = false, nil, 0
}

// doubt has the host asked about a name the next time.
func (l *listing) doubt(name string) {
	l.ahead.forget()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.version++
	if l.loaded {
		l.names[name] = nil
	}
}

// renew is doubt where the name itself may have come or gone.
func (l *listing) renew(name string) {
	l.doubt(name)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.changed = time.Now()
	delete(l.absent, name)
}

// remove notes that a name is gone.
func (l *listing) remove(name string) {
	l.ahead.forget()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.version++
	l.changed = time.Now()
	delete(l.names, name)
}

// current is the version; what was found after is true for as long as it stays.
func (l *listing) current() uint64 {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.version
}

// noteAbsent says whether the kernel may keep that a name is not there, as far as is known since a version. It knows the
// folder again when it has been away, with such names: they must be taken back one by one.
func (l *listing) noteAbsent(name string, version uint64) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.version != version || len(l.absent) >= mostAbsent {
		return false
	}
	if l.absent == nil {
		l.absent = map[string]struct{}{}
	}
	l.absent[name] = struct{}{}
	return true
}

func (l *listing) takeAbsent() map[string]struct{} {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	taken := l.absent
	l.absent = nil
	return taken
}

// wantsAhead counts a name that is asked for and there, and says whether to read the folder ahead.
func (l *listing) wantsAhead() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.asked++
	if !l.loaded || !l.watched || l.given || l.asked < 2 || len(l.names) < fewNames || l.asked*namesAhead < len(l.names) {
		return false
	}
	l.given = true
	return true
}

// mayKeep notes that somebody reads the folder, and says whether the kernel may keep which names there are.
func (l *listing) mayKeep() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.given = true
	return l.isFresh() && l.watched && len(l.names) > 0 && len(l.names) <= mostKept && time.Since(l.changed) > settleTime
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

// all is the whole listing where it has no gaps, always in the same order.
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
	sortEntries(entries)
	return entries, true
}

func sortEntries(entries []entry) {
	slices.SortFunc(entries, func(one, other entry) int { return strings.Compare(one.name, other.name) })
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
	entries, told, isFetched := l.ahead.take(place)
	if !isFetched {
		if entries, told, errno = folder.list(ctx, place); errno != 0 {
			return nil, errno
		}
	}
	l.ahead.note(place, entries)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.version == before && folder.entries.hasRoom(len(entries)-l.counted, mostEntries) {
		folder.entries.add(len(entries) - l.counted)
		l.counted = len(entries)
		l.names = make(map[string]*Attributes, len(entries))
		for index := range entries {
			l.names[entries[index].name] = &entries[index].attributes
		}
		l.loaded, l.watched, l.loadedAt = true, told&listWatched != 0, time.Now()
		l.asked, l.given = 0, false
		if told&listSettled == 0 {
			l.changed = l.loadedAt
		}
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
