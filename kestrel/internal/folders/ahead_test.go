// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// lists answers each request for a folder's listing with the same names, and counts them by path.
type lists struct {
	mutex sync.Mutex
	told  uint8
	names map[string]uint32 // with their mode
	asked []string
}

func (l *lists) answer(op operation, body []byte) (syscall.Errno, []byte) {
	if op != opList {
		return syscall.ENOSYS, nil
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	request := &decoder{data: body}
	request.u32()
	l.asked = append(l.asked, request.text())
	reply := append([]byte{l.told}, new(encoder).u32(uint32(len(l.names))).data...)
	inode := uint64(10 * len(l.asked))
	for name, mode := range l.names {
		inode++
		reply = append(append(reply, packAttributes(mode, inode)...), new(encoder).text(name).data...)
	}
	return 0, reply
}

func (l *lists) count() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return len(l.asked)
}

func startFolder(t *testing.T, answer func(operation, []byte) (syscall.Errno, []byte)) *Folder {
	t.Helper()
	s := &server{t: t, answer: answer}
	host, listener := startHost(t, s)
	connect(s, listener)
	folder := newFolder(0, host, owner)
	fs.NewNodeFS(folder.root, &fs.Options{})
	return folder
}

func TestAWalkHasFoldersFetchedAhead(t *testing.T) {
	source := &lists{told: listWatched, names: map[string]uint32{"one": unix.S_IFDIR, "two": unix.S_IFDIR, "file": unix.S_IFREG}}
	folder := startFolder(t, source.answer)
	entries, _, _ := folder.list(context.Background(), "")
	for range walkFolders - 1 {
		folder.ahead.note("", entries)
	}
	if source.count() != 1 {
		t.Fatalf("who reads two folders walks nowhere, and yet %v was asked for", source.asked)
	}
	folder.ahead.note("top", entries)
	for _, path := range []string{"top/one", "top/two"} {
		found, told, ok := folder.ahead.take(path)
		if !ok || told != listWatched || len(found) != len(entries) {
			t.Errorf("%s: %v, %v, %v", path, found, told, ok)
		}
		if _, _, ok := folder.ahead.take(path); ok {
			t.Errorf("%s was handed out twice", path)
		}
	}
	if _, _, ok := folder.ahead.take("top/file"); ok {
		t.Error("a file was listed")
	}
}

func TestWhatChangesDropsWhatWasFetchedAhead(t *testing.T) {
	source := &lists{told: listWatched, names: map[string]uint32{"one": unix.S_IFDIR}}
	folder := startFolder(t, source.answer)
	entries, _, _ := folder.list(context.Background(), "")
	for what, change := range map[string]func(){
		"host":            func() { folder.event(eventChanged, "elsewhere", "name") },
		"guest":           func() { folder.root.listing.doubt("name") },
		"name that goes":  func() { folder.root.listing.remove("name") },
		"name that comes": func() { folder.root.listing.renew("name") },
	} {
		for range walkFolders {
			folder.ahead.note("top", entries)
		}
		change()
		if _, _, ok := folder.ahead.take("top/one"); ok {
			t.Errorf("a change of the %s left it there", what)
		}
	}
	source.mutex.Lock()
	source.told = 0
	source.mutex.Unlock()
	for range walkFolders {
		folder.ahead.note("top", entries)
	}
	if _, _, ok := folder.ahead.take("top/one"); ok {
		t.Error("what nobody watches was kept")
	}
}

func TestTheKernelKeepsNamesOfAFolderThatIsQuiet(t *testing.T) {
	source := &lists{told: listWatched | listSettled, names: map[string]uint32{"file": unix.S_IFREG}}
	folder := startFolder(t, source.answer)
	keeps := func() bool {
		_, flags, errno := folder.root.OpendirHandle(context.Background(), 0)
		return errno == 0 && flags&fuse.FOPEN_CACHE_DIR != 0
	}
	load := func() {
		if _, errno := folder.root.listing.load(context.Background(), folder, folder.root.path); errno != 0 {
			t.Fatal(errno)
		}
	}
	if keeps() {
		t.Error("nothing is known of it yet")
	}
	if load(); !keeps() {
		t.Error("nothing has changed for long")
	}
	folder.root.listing.doubt("file")
	if !keeps() {
		t.Error("that a file has changed is nothing to its folder")
	}
	folder.event(eventEntry, "", "new")
	if load(); keeps() {
		t.Error("a name has just come")
	}
	folder.root.listing.forget(&folder.entries)
	folder.root.listing.changed = time.Time{}
	source.told = listWatched
	if load(); keeps() {
		t.Error("the host says that it may have changed just now")
	}
}

func TestAFolderIsReadAgainFromItsBeginning(t *testing.T) {
	source := &lists{told: listWatched, names: map[string]uint32{"b": unix.S_IFREG, "a": unix.S_IFREG, "c": unix.S_IFREG}}
	folder := startFolder(t, source.answer)
	handle, _, _ := folder.root.OpendirHandle(context.Background(), 0)
	opened := handle.(*reading)
	read := func() (names []string) {
		for {
			found, errno := opened.Readdirent(context.Background())
			if errno != 0 || found == nil {
				return names
			}
			names = append(names, fmt.Sprint(found.Name, found.Off))
		}
	}
	if names := read(); !slices.Equal(names, []string{"a1", "b2", "c3"}) {
		t.Errorf("read %v", names)
	}
	if _ = opened.Seekdir(context.Background(), 2); !slices.Equal(read(), []string{"c3"}) {
		t.Error("it goes on where it was told to")
	}
	source.mutex.Lock()
	delete(source.names, "b")
	source.mutex.Unlock()
	folder.event(eventEntry, "", "b")
	if _ = opened.Seekdir(context.Background(), 0); !slices.Equal(read(), []string{"a1", "c2"}) {
		t.Error("read again from the beginning, it is as it is now")
	}
}

func TestASmallFileComesWithItsOpening(t *testing.T) {
	var reads int
	folder := startFolder(t, func(op operation, body []byte) (syscall.Errno, []byte) {
		switch op {
		case opOpen:
			flags := (&decoder{data: body[4:]}).u32()
			if flags&wantContent == 0 {
				return 0, packAttributes(unix.S_IFREG, 5)
			}
			return 0, append(packAttributes(unix.S_IFREG, 5), "content"...)
		case opRead:
			reads++
			return 0, []byte("later")
		}
		return 0, nil
	})
	read := func(opened fs.FileHandle, offset int64) string {
		found, errno := opened.(*file).Read(context.Background(), make([]byte, 4096), offset)
		if errno != 0 {
			t.Fatal(errno)
		}
		data, _ := found.Bytes(nil)
		return string(data)
	}
	open := func() fs.FileHandle {
		folder.root.note(Attributes{})
		opened, _, errno := folder.root.Open(context.Background(), unix.O_RDONLY)
		if errno != 0 {
			t.Fatal(errno)
		}
		return opened
	}
	opened := open()
	if found := read(opened, 0); found != "content" || reads != 0 {
		t.Errorf("read %q, asked %d times", found, reads)
	}
	if found := read(opened, 0); found != "later" || reads != 1 {
		t.Errorf("read %q the second time, asked %d times", found, reads)
	}
	if found := read(open(), 3); found != "later" {
		t.Errorf("read %q from the middle", found)
	}
	opened = open()
	folder.event(eventChanged, "", "name")
	if found := read(opened, 0); found != "later" {
		t.Errorf("read %q after a change", found)
	}
	opened, _, _ = folder.root.Open(context.Background(), unix.O_RDONLY)
	if opened.(*file).whole.Load() != nil {
		t.Error("the kernel has that content already")
	}
}

func TestWhatIsRenamedOnTheHostIsNotAskedForByItsOldName(t *testing.T) {
	source := &lists{told: listWatched, names: map[string]uint32{"old": unix.S_IFREG}}
	folder := startFolder(t, source.answer)
	if _, errno := folder.root.listing.load(context.Background(), folder, folder.root.path); errno != 0 {
		t.Fatal(errno)
	}
	inode, errno := folder.root.Lookup(context.Background(), "old", &fuse.EntryOut{})
	if errno != 0 {
		t.Fatal(errno)
	}
	folder.root.AddChild("old", inode, true)
	found := inode.Operations().(*node)
	if path, errno := found.path(); path != "old" || errno != 0 {
		t.Fatalf("path %q, %v", path, errno)
	}
	folder.event(eventEntry, "", "old")
	if path, errno := found.path(); errno != syscall.ESTALE {
		t.Errorf("path %q, %v", path, errno)
	}
	folder.root.AddChild("new", inode, true)
	if path, errno := found.path(); path != "new" || errno != 0 {
		t.Errorf("path %q, %v once it was looked up by its new name", path, errno)
	}
}

func TestThatANameIsAbsentIsKeptForAsLongAsNothingHasChanged(t *testing.T) {
	known := &newFolder(0, newHost(), owner).root.listing
	before := known.current()
	if !known.noteAbsent("name", before) {
		t.Error("nothing has changed")
	}
	known.renew("other")
	if known.noteAbsent("third", before) {
		t.Error("a name has come since")
	}
	if taken := known.takeAbsent(); len(taken) != 1 {
		t.Errorf("the kernel is to forget %v", taken)
	}
	for number := range mostAbsent {
		known.noteAbsent(fmt.Sprint(number), known.current())
	}
	if known.noteAbsent("one more", known.current()) {
		t.Error("it remembers more than it is to")
	}
}
