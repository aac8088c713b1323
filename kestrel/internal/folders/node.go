// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file, folder or link, as long as the kernel remembers it.
type node struct {
	fs.Inode
	folder  *Folder
	listing listing                // of a folder
	asking  atomic.Pointer[string] // the name that waits for the folder to be read ahead

	mutex sync.Mutex
	seen  Attributes // by which the kernel knows the content that it has in its cache
}

func splitPath(path string) iter.Seq[string] {
	if path == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(path, "/")
}

// path is where the host has this now; ESTALE for what is gone.
func (n *node) path() (string, syscall.Errno) {
	var parts []string
	root := n.folder.root.EmbeddedInode()
	for current := n.EmbeddedInode(); current != root; {
		name, parent := current.Parent()
		if parent == nil {
			return "", syscall.ESTALE
		}
		parts = append(parts, name)
		current = parent
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), 0
}

func (n *node) child(name string) (string, syscall.Errno) {
	path, errno := n.path()
	if errno != 0 {
		return "", errno
	}
	return join(path, name), 0
}

// atPath does something with a path. One that is not there any more may just be on its way to another name, which this
// process learns a moment after the host.
func atPath(folder *Folder, find func() (string, syscall.Errno), act func(path string) syscall.Errno) syscall.Errno {
	for {
		renames := folder.renames.Load()
		path, errno := find()
		if errno != 0 {
			return errno
		}
		if errno = act(path); errno != syscall.ENOENT {
			return errno
		}
		if now, again := find(); renames == 0 || again != 0 || now == path {
			return errno
		}
	}
}

// adopt makes the inode of a file that the host has, and says for how long the kernel may trust what it hears.
func (n *node) adopt(ctx context.Context, attributes Attributes, watched bool, out *fuse.EntryOut) *fs.Inode {
	n.folder.fill(&out.Attr, attributes)
	made := n.folder.newNode()
	inode := n.NewInode(ctx, made, fs.StableAttr{Mode: attributes.mode & unix.S_IFMT, Ino: attributes.inode})
	known, _ := inode.Operations().(*node)
	out.SetEntryTimeout(trust(watched))
	out.SetAttrTimeout(known.trust(watched, attributes))
	return inode
}

func trust(watched bool) time.Duration {
	if watched {
		return watchedTime
	}
	return unwatchedTime
}

// trust is for how long attributes hold: those of a folder change with what is in it, those of a file of several names
// in folders of which not all need be watched.
func (n *node) trust(watched bool, attributes Attributes) time.Duration {
	if attributes.mode&unix.S_IFMT == unix.S_IFDIR {
		_, _, within := n.listing.find("")
		return trust(watched && within)
	}
	return trust(watched && attributes.links == 1)
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	version := n.listing.current()
	attributes, sure, watched := n.listing.find(name)
	if !sure && !watched {
		if _, errno := n.listing.load(ctx, n.folder, n.path); errno != 0 {
			out.SetEntryTimeout(1) // that its folder is not there says nothing of when it is again
			return nil, errno
		}
		version = n.listing.current()
		attributes, sure, watched = n.listing.find(name)
	}
	if !sure || (attributes != nil && attributes.links > 1 && attributes.mode&unix.S_IFMT != unix.S_IFDIR) {
		var found Attributes
		errno := atPath(n.folder, func() (string, syscall.Errno) { return n.child(name) }, func(path string) (errno syscall.Errno) {
			found, errno = n.folder.stat(ctx, path)
			return errno
		})
		if errno == syscall.ENOENT && !(watched && n.listing.noteAbsent(name, version)) {
			out.SetEntryTimeout(1) // known to be so now, not later
		}
		if errno != 0 {
			return nil, errno
		}
		attributes = &found
	}
	if attributes == nil {
		if !watched || !n.listing.noteAbsent(name, version) {
			out.SetEntryTimeout(1)
		}
		return nil, syscall.ENOENT
	}
	if n.listing.wantsAhead() {
		n.readAhead(name)
	}
	return n.adopt(ctx, *attributes, watched && n.listing.current() == version, out), 0
}

// readAhead has the kernel take in all of the folder. The one name that is being asked for is left out: the kernel waits
// for our answer.
func (n *node) readAhead(name string) {
	if path, errno := n.path(); errno == 0 {
		n.asking.Store(&name)
		n.folder.view.read(path)
		n.asking.Store(nil)
	}
}

func (n *node) Getattr(ctx context.Context, handle fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	var attributes Attributes
	errno := atPath(n.folder, n.path, func(path string) (errno syscall.Errno) {
		attributes, errno = n.folder.stat(ctx, path)
		return errno
	})
	if opened, ok := handle.(*file); ok && (errno == syscall.ESTALE || errno == syscall.ENOENT) {
		attributes, errno = opened.stat(ctx)
	}
	if errno != 0 {
		return errno
	}
	n.tell(attributes, out)
	return 0
}

func (n *node) tell(attributes Attributes, out *fuse.AttrOut) {
	n.folder.fill(&out.Attr, attributes)
	watched := n == n.folder.root
	if _, parent := n.Parent(); parent != nil {
		_, _, watched = parent.Operations().(*node).listing.find("")
	}
	out.SetTimeout(n.trust(watched, attributes))
}

// doubt has whatever is known of this by its name asked for again.
func (n *node) doubt() {
	if name, parent := n.Parent(); parent != nil {
		parent.Operations().(*node).listing.doubt(name)
	}
}

const (
	setMode = 1 << iota
	setSize
	setAccessed
	setWritten
	setAccessedNow
	setWrittenNow
)

// Setattr leaves owners alone: everything is the workload's, and on the host the daemon's user's.
func (n *node) Setattr(ctx context.Context, handle fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if caller, ok := fuse.FromContext(ctx); ok && n.folder.wakers.isOurs(caller.Pid) {
		return n.Getattr(ctx, nil, out)
	}
	var valid, mode uint32
	var size uint64
	var accessed, written time.Time
	if value, ok := in.GetMode(); ok {
		valid, mode = valid|setMode, value
	}
	if value, ok := in.GetSize(); ok {
		valid, size = valid|setSize, value
	}
	if value, ok := in.GetATime(); ok {
		valid, accessed = valid|setAccessed, value
	}
	if value, ok := in.GetMTime(); ok {
		valid, written = valid|setWritten, value
	}
	if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
		valid = valid&^setAccessed | setAccessedNow
	}
	if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
		valid = valid&^setWritten | setWrittenNow
	}
	change := func(handle uint32, path string) (Attributes, syscall.Errno) {
		body := new(encoder).u32(handle).u32(valid).u32(mode).u64(size)
		body.u64(uint64(accessed.UnixNano())).u64(uint64(written.UnixNano())).text(path)
		return n.folder.readAttributes(n.folder.ask(ctx, opSetattr, body))
	}
	var attributes Attributes
	errno := atPath(n.folder, n.path, func(path string) (errno syscall.Errno) {
		attributes, errno = change(0, path)
		return errno
	})
	if opened, ok := handle.(*file); ok && (errno == syscall.ESTALE || errno == syscall.ENOENT) {
		attributes, errno = change(opened.number, "")
	}
	if errno != 0 {
		return errno
	}
	n.doubt()
	n.tell(attributes, out)
	return 0
}

func (n *node) Readlink(ctx context.Context) (target []byte, errno syscall.Errno) {
	errno = atPath(n.folder, n.path, func(path string) syscall.Errno {
		answer, errno := n.folder.ask(ctx, opReadlink, new(encoder).text(path))
		if errno == 0 {
			target = answer.data
		}
		return errno
	})
	return target, errno
}

func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	answer, errno := n.folder.ask(ctx, opStatfs, new(encoder))
	if errno != 0 {
		return errno
	}
	out.Blocks, out.Bfree, out.Bavail = answer.u64(), answer.u64(), answer.u64()
	out.Files, out.Ffree = answer.u64(), answer.u64()
	out.Bsize, out.Frsize, out.NameLen = answer.u32(), answer.u32(), answer.u32()
	return 0
}
