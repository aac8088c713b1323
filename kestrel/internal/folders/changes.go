// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// What changes names in a folder.

// add makes something new by one request, which has its path as the last part.
func (n *node) add(
	ctx context.Context, name string, out *fuse.EntryOut, op operation, body *encoder,
) (*fs.Inode, syscall.Errno) {
	path, errno := n.child(name)
	if errno != 0 {
		return nil, errno
	}
	answer, done, errno := n.folder.askOnce(ctx, op, body.text(path), syscall.EEXIST)
	attributes, errno := n.folder.readAttributes(answer, errno)
	if done {
		attributes, errno = n.folder.stat(ctx, path)
	}
	if errno != 0 {
		return nil, errno
	}
	return n.added(ctx, name, attributes, out), 0
}

// added notes a new name.
func (n *node) added(ctx context.Context, name string, attributes Attributes, out *fuse.EntryOut) *fs.Inode {
	n.listing.renew(name)
	_, _, watched := n.listing.find(name)
	return n.adopt(ctx, attributes, watched, out)
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, out, opMkdir, new(encoder).u32(mode))
}

func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, out, opMknod, new(encoder).u32(mode))
}

func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, out, opSymlink, new(encoder).text(target))
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	original, ok := target.(*node)
	if !ok {
		return nil, syscall.EXDEV
	}
	path, errno := original.path()
	if errno != 0 {
		return nil, errno
	}
	original.doubt()
	return n.add(ctx, name, out, opLink, new(encoder).text(path))
}

func (n *node) Create(
	ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	path, errno := n.child(name)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	opened := n.folder.handles.new(n.folder, flags)
	body := new(encoder).u32(opened.number).u32(flags | unix.O_CREAT).u32(mode).text(path)
	answer, done, errno := n.folder.askOnce(ctx, opCreate, body, syscall.EEXIST)
	if done { // the first request has made it, and its handle went with the host that knew it
		body = new(encoder).u32(opened.number).u32(flags &^ (unix.O_CREAT | unix.O_EXCL)).u32(mode).text(path)
		answer, errno = n.folder.ask(ctx, opCreate, body)
	}
	attributes, errno := n.folder.readAttributes(answer, errno)
	if errno != 0 {
		n.folder.handles.drop(opened)
		return nil, nil, 0, errno
	}
	inode := n.added(ctx, name, attributes, out)
	made, _ := inode.Operations().(*node)
	opened.node = made
	made.note(attributes)
	return inode, opened, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *node) remove(ctx context.Context, name string, op operation) syscall.Errno {
	path, errno := n.child(name)
	if errno != 0 {
		return errno
	}
	if _, _, errno = n.folder.askOnce(ctx, op, new(encoder).text(path), syscall.ENOENT); errno == 0 {
		if child := n.GetChild(name); child != nil && !child.IsDir() {
			child.Operations().(*node).doubt() // its other names have one link less
		}
		n.listing.remove(name)
	}
	return errno
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.remove(ctx, name, opUnlink)
}
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.remove(ctx, name, opRmdir)
}

func (n *node) Rename(
	ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32,
) syscall.Errno {
	target, ok := newParent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	n.folder.renames.Add(1)
	defer n.folder.renames.Add(-1)
	from, errno := n.child(name)
	if errno != 0 {
		return errno
	}
	to, errno := target.child(newName)
	if errno != 0 {
		return errno
	}
	body := new(encoder).u32(flags).text(from).text(to)
	if _, _, errno = n.folder.askOnce(ctx, opRename, body, syscall.ENOENT); errno != 0 {
		return errno
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		n.listing.renew(name)
	} else {
		n.listing.remove(name)
	}
	target.listing.renew(newName)
	return 0
}
