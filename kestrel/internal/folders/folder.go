// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Folder is one folder of the host, mounted in the guest. Files are asked for by their path below it: what the guest's
// kernel knows of them is in this process, so that a host that comes back needs to be told nothing.
type Folder struct {
	number  uint8
	host    *Host
	owner   fuse.Owner // whose everything is, as the guest sees it
	root    *node
	view    *view   // nil: nothing is read ahead
	wakers  *wakers // nil: nobody is woken
	entries counter
	ahead   ahead
	handles handles
	renames atomic.Int64 // that are on their way
}

func newFolder(number uint8, host *Host, owner fuse.Owner) *Folder {
	folder := &Folder{number: number, host: host, owner: owner}
	folder.ahead = ahead{fetch: folder.fetchAhead, known: map[string]*fetched{}}
	folder.root = folder.newNode()
	return folder
}

func (f *Folder) newNode() *node {
	return &node{folder: f, listing: listing{ahead: &f.ahead}}
}

func (f *Folder) ask(ctx context.Context, op operation, body *encoder) (*decoder, syscall.Errno) {
	answer, _, errno := f.host.ask(ctx, op, f.number, body.data)
	return answer, errno
}

// askOnce asks for what can be done once only. Where the request had to be sent again, `done` is what the host says when
// the first one had already done it.
func (f *Folder) askOnce(ctx context.Context, op operation, body *encoder, done syscall.Errno) (*decoder, bool, syscall.Errno) {
	answer, again, errno := f.host.ask(ctx, op, f.number, body.data)
	if again && errno == done {
		return answer, true, 0
	}
	return answer, false, errno
}

// list is everything in a folder, and what the host says of the listing. A large one comes in parts.
func (f *Folder) list(ctx context.Context, path string) (entries []entry, told uint8, errno syscall.Errno) {
	for told = listMore; told&listMore != 0; {
		var part []entry
		if part, told, errno = f.listPart(ctx, path, len(entries)); errno != 0 {
			return nil, 0, errno
		}
		entries = append(entries, part...)
	}
	sortEntries(entries)
	return entries, told, 0
}

func (f *Folder) listPart(ctx context.Context, path string, after int) (entries []entry, told uint8, errno syscall.Errno) {
	answer, errno := f.ask(ctx, opList, new(encoder).u32(uint32(after)).text(path))
	if errno != 0 {
		return nil, 0, errno
	}
	told, count := answer.u8(), int(answer.u32())
	if count == 0 {
		told &^= listMore
	}
	for range count {
		attributes := answer.attributes()
		entries = append(entries, entry{answer.text(), attributes})
		if answer.err != nil {
			break
		}
	}
	if answer.err != nil {
		return nil, 0, syscall.EIO
	}
	return entries, told, 0
}

func (f *Folder) stat(ctx context.Context, path string) (Attributes, syscall.Errno) {
	return f.readAttributes(f.ask(ctx, opStat, new(encoder).text(path)))
}

func (f *Folder) readAttributes(answer *decoder, errno syscall.Errno) (Attributes, syscall.Errno) {
	if errno != 0 {
		return Attributes{}, errno
	}
	attributes := answer.attributes()
	if answer.err != nil {
		return Attributes{}, syscall.EIO
	}
	return attributes, 0
}

// fill tells the kernel of a file, as one of the guest's own.
func (f *Folder) fill(out *fuse.Attr, from Attributes) {
	out.Ino, out.Size, out.Blocks = from.inode, from.size, from.blocks
	out.Mode, out.Nlink, out.Owner = from.mode, from.links, f.owner
	out.Atime, out.Atimensec = uint64(from.accessed/1e9), uint32(from.accessed%1e9)
	out.Mtime, out.Mtimensec = uint64(from.written/1e9), uint32(from.written%1e9)
	out.Ctime, out.Ctimensec = uint64(from.changed/1e9), uint32(from.changed%1e9)
	out.Blksize = 4096
}

// event notes what has changed on the host, and returns what the kernel is to be told. It is called in the order of the
// host's stream.
func (f *Folder) event(kind uint8, path, name string) func() {
	f.ahead.forget()
	found := f.find(path)
	if found == nil {
		return func() {}
	}
	switch kind {
	case eventTree:
		found.forgetListings()
		return found.forgetEntries
	case eventEntry:
		found.listing.renew(name)
		// Whatever had that name may have another one by now: nobody is to be asked for it by this one. Where it is still
		// there, the kernel looks it up anew.
		found.RmChild(name)
		return func() {
			// The names that the kernel keeps, and the folder's times: after the entry, for which the kernel waits until
			// nobody reads the folder who was told of an earlier state.
			_ = found.NotifyEntry(name)
			_ = found.NotifyContent(0, 0)
			f.wakers.wake(join(path, name))
		}
	default:
		found.listing.doubt(name)
		return func() {
			if child := found.GetChild(name); child != nil {
				_ = child.NotifyContent(0, 0)
			}
			f.wakers.wake(join(path, name))
		}
	}
}

// find is the node of a path, if the kernel knows it.
func (f *Folder) find(path string) *node {
	current := f.root.EmbeddedInode()
	for part := range splitPath(path) {
		if current = current.GetChild(part); current == nil {
			return nil
		}
	}
	found, _ := current.Operations().(*node)
	return found
}

// forgetListings drops what this process knows of a folder and everything below it, forgetEntries what the kernel does.
func (n *node) forgetListings() {
	n.listing.forget(&n.folder.entries)
	for _, child := range n.Children() {
		if below, ok := child.Operations().(*node); ok {
			below.forgetListings()
		}
	}
}

func (n *node) forgetEntries() {
	for name, child := range n.Children() {
		if below, ok := child.Operations().(*node); ok {
			below.forgetEntries()
		}
		_ = n.NotifyEntry(name)
	}
	for name := range n.listing.takeAbsent() {
		_ = n.NotifyEntry(name)
	}
	_ = n.NotifyContent(0, 0)
}
