// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// reading is an open folder. All that it says of names is of one moment: when it was first read, or read again from its
// beginning.
type reading struct {
	node    *node
	entries []entry
	at      int
}

// OpendirHandle lets the kernel keep the names where that is safe; it asks for them all anew where it is not.
func (n *node) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if n.listing.mayKeep() {
		return &reading{node: n}, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
	}
	return &reading{node: n}, 0, 0
}

func (r *reading) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if r.entries == nil {
		if errno := r.load(ctx); errno != 0 {
			return nil, errno
		}
	}
	if r.at >= len(r.entries) {
		return nil, 0
	}
	found := r.entries[r.at]
	r.at++
	return &fuse.DirEntry{
		Name: found.name, Mode: found.attributes.mode, Ino: found.attributes.inode, Off: uint64(r.at),
	}, 0
}

// Lookup is asked for each name that is read. What the kernel knows already need not be told again: no answer is one that
// it ignores.
func (r *reading) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if asking := r.node.asking.Load(); asking != nil && *asking == name {
		return nil, syscall.EAGAIN
	}
	if _, sure, watched := r.node.listing.find(name); sure && watched && r.node.GetChild(name) != nil {
		return nil, syscall.EAGAIN
	}
	return r.node.Lookup(ctx, name, out)
}

func (r *reading) load(ctx context.Context) (errno syscall.Errno) {
	entries, errno := r.node.listing.load(ctx, r.node.folder, r.node.path)
	if entries == nil {
		entries = []entry{}
	}
	r.entries = entries
	return errno
}

func (r *reading) Seekdir(ctx context.Context, offset uint64) syscall.Errno {
	if r.entries == nil || offset == 0 {
		if errno := r.load(ctx); errno != 0 {
			return errno
		}
	}
	if offset > uint64(len(r.entries)) {
		offset = uint64(len(r.entries))
	}
	r.at = int(offset)
	return 0
}

// Fsyncdir has the host write what came to the folder and went.
func (r *reading) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return atPath(r.node.folder, r.node.path, func(path string) syscall.Errno {
		_, errno := r.node.folder.ask(ctx, opFsync, new(encoder).u32(0).u32(flags).text(path))
		return errno
	})
}
