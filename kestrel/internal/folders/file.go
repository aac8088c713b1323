// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// file is an open file, which the host knows by a number of ours.
type file struct {
	folder *Folder
	number uint32
	flags  uint32
	node   *node
	whole  atomic.Pointer[whole]
}

// whole is all of a small file, as it was when it was opened.
type whole struct {
	content []byte
	since   time.Time
	changes uint64 // that the folder had had
}

// wholeTime is for how long it is good, at most; after that files are read as they are then.
const wholeTime = time.Second

func (f *file) takeWhole() ([]byte, bool) {
	found := f.whole.Swap(nil)
	if found == nil || time.Since(found.since) > wholeTime || found.changes != f.folder.ahead.changes.Load() {
		return nil, false
	}
	return found.content, true
}

// handles are the open files of one folder.
type handles struct {
	mutex sync.Mutex
	last  uint32
	open  map[uint32]*file
}

func (h *handles) new(folder *Folder, flags uint32) *file {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.open == nil {
		h.open = map[uint32]*file{}
	}
	for h.last++; h.last == 0 || h.open[h.last] != nil; h.last++ {
	}
	made := &file{folder: folder, number: h.last, flags: flags}
	h.open[made.number] = made
	return made
}

func (h *handles) drop(closed *file) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	delete(h.open, closed.number)
}

func (h *handles) all() []*file {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	files := make([]*file, 0, len(h.open))
	for _, each := range h.open {
		files = append(files, each)
	}
	return files
}

// reopen tells a host that knows nothing yet of every open file. One that is gone by its name is gone for good.
func (f *Folder) reopen(send func(op operation, folder uint8, body []byte)) {
	for _, opened := range f.handles.all() {
		if opened.node == nil {
			continue
		}
		if path, errno := opened.node.path(); errno == 0 {
			flags := opened.flags &^ (unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC)
			send(opOpen, f.number, new(encoder).u32(opened.number).u32(flags).text(path).data)
		}
	}
}

// note remembers the state of the content that the kernel has.
func (n *node) note(attributes Attributes) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.seen = attributes
}

func (n *node) isSeen() bool {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return n.seen != (Attributes{})
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	opened := n.folder.handles.new(n.folder, flags)
	opened.node = n
	asked := flags &^ wantContent
	if flags&unix.O_ACCMODE == unix.O_RDONLY && !n.isSeen() {
		asked |= wantContent
	}
	var attributes Attributes
	var read whole
	errno := atPath(n.folder, n.path, func(path string) (errno syscall.Errno) {
		read = whole{since: time.Now(), changes: n.folder.ahead.changes.Load()}
		body := new(encoder).u32(opened.number).u32(asked).text(path)
		answer, errno := n.folder.ask(ctx, opOpen, body)
		if attributes, errno = n.folder.readAttributes(answer, errno); errno == 0 {
			read.content = answer.data
		}
		return errno
	})
	if errno != 0 {
		n.folder.handles.drop(opened)
		return nil, 0, errno
	}
	if flags&unix.O_TRUNC != 0 {
		n.doubt()
	}
	if size := len(read.content); size > 0 && uint64(size) == attributes.size {
		opened.whole.Store(&read)
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	var told uint32
	if n.seen.sameContent(attributes) {
		told |= fuse.FOPEN_KEEP_CACHE
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		told |= fuse.FOPEN_NOFLUSH // nothing was written when it is closed
	}
	n.seen = attributes
	return opened, told, 0
}

func (f *file) stat(ctx context.Context) (Attributes, syscall.Errno) {
	// Nothing is set, which leaves the answer.
	body := new(encoder).u32(f.number).u32(0).u32(0).u64(0).u64(0).u64(0).text("")
	return f.folder.readAttributes(f.folder.ask(ctx, opSetattr, body))
}

func (f *file) Read(ctx context.Context, buffer []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	if whole, ok := f.takeWhole(); ok && offset == 0 && len(buffer) >= len(whole) {
		return content(whole), 0
	}
	size := min(len(buffer), MaxData)
	body := new(encoder).u32(f.number).u64(uint64(offset)).u32(uint32(size))
	answer, errno := f.folder.ask(ctx, opRead, body)
	if errno != 0 {
		return nil, errno
	}
	if len(answer.data) > size {
		return nil, syscall.EIO
	}
	return content(answer.data), 0
}

// content is what was read of a file; its memory is used again once the kernel has it. Slices has it written as it is:
// the library would first try to send it through a pipe.
type content []byte

func (c content) Bytes([]byte) ([]byte, fuse.Status) { return c, fuse.OK }
func (c content) Slices() ([][]byte, fuse.Status)    { return [][]byte{c}, fuse.OK }
func (c content) Size() int                          { return len(c) }
func (c content) Done()                              { freeBody(c) }

func (f *file) Write(ctx context.Context, data []byte, offset int64) (uint32, syscall.Errno) {
	body := &encoder{make([]byte, 0, 12+len(data))}
	body.u32(f.number).u64(uint64(offset)).rest(data)
	answer, errno := f.folder.ask(ctx, opWrite, body)
	if errno != 0 {
		return 0, errno
	}
	written := answer.u32()
	attributes, errno := f.folder.readAttributes(answer, 0)
	if errno != 0 {
		return 0, errno
	}
	f.node.note(attributes)
	f.node.doubt()
	return min(written, uint32(len(data))), 0
}

func (f *file) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	_, errno := f.folder.ask(ctx, opFsync, new(encoder).u32(f.number).u32(flags))
	return errno
}

func (f *file) Allocate(ctx context.Context, offset, size uint64, mode uint32) syscall.Errno {
	body := new(encoder).u32(f.number).u32(mode).u64(offset).u64(size)
	_, errno := f.folder.ask(ctx, opAllocate, body)
	f.node.doubt()
	return errno
}

// Release is not waited for by anybody who closes a file.
func (f *file) Release(context.Context) syscall.Errno {
	_, errno := f.folder.ask(context.Background(), opClose, new(encoder).u32(f.number))
	f.folder.handles.drop(f)
	return errno
}

func (n *node) Getxattr(ctx context.Context, name string, buffer []byte) (uint32, syscall.Errno) {
	return n.askForXattr(ctx, opGetxattr, name, buffer, syscall.ENODATA)
}

func (n *node) Listxattr(ctx context.Context, buffer []byte) (uint32, syscall.Errno) {
	return n.askForXattr(ctx, opListxattr, "", buffer, 0)
}

func (n *node) askForXattr(
	ctx context.Context, op operation, name string, buffer []byte, unusable syscall.Errno,
) (uint32, syscall.Errno) {
	if name != "" && !isUserXattr(name) {
		return 0, unusable
	}
	var value []byte
	errno := atPath(n.folder, n.path, func(path string) syscall.Errno {
		answer, errno := n.folder.ask(ctx, op, new(encoder).text(path).text(name))
		if errno == 0 {
			value = answer.data
		}
		return errno
	})
	if errno == 0 && len(buffer) > 0 && len(value) > len(buffer) {
		errno = syscall.ERANGE
	}
	copy(buffer, value)
	return uint32(len(value)), errno
}

func (n *node) Setxattr(ctx context.Context, name string, data []byte, flags uint32) syscall.Errno {
	if !isUserXattr(name) {
		return syscall.ENOTSUP
	}
	return atPath(n.folder, n.path, func(path string) syscall.Errno {
		_, errno := n.folder.ask(ctx, opSetxattr, new(encoder).u32(flags).text(path).text(name).rest(data))
		return errno
	})
}

func (n *node) Removexattr(ctx context.Context, name string) syscall.Errno {
	if !isUserXattr(name) {
		return syscall.ENODATA
	}
	return atPath(n.folder, n.path, func(path string) syscall.Errno {
		_, errno := n.folder.ask(ctx, opRemovexattr, new(encoder).text(path).text(name))
		return errno
	})
}

// isUserXattr: the others carry rights, which are the host's own affair.
func isUserXattr(name string) bool { return len(name) > 5 && name[:5] == "user." }
