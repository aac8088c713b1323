// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// What guest and host say to each other, little endian throughout (src/volant/volantd/folders/wire.py is the other side).
// A request is its length, a number, an operation, the folder that it is about and what the operation needs; the answer is
// its length, that number, an errno and what was asked for. Number 0 is an event: what has changed on the host.

type operation byte

const (
	opHello operation = iota
	opList
	opStat
	opOpen
	opCreate
	opRead
	opWrite
	opClose
	opSetattr
	opMkdir
	opMknod
	opUnlink
	opRmdir
	opRename
	opSymlink
	opReadlink
	opLink
	opFsync
	opStatfs
	opGetxattr
	opSetxattr
	opListxattr
	opRemovexattr
	opAllocate
)

const (
	version = 1
	// MaxData is the most bytes of a file in one message, which is also the most that the kernel asks for.
	MaxData = 1 << 20
	// Answers are larger than that by what lists take.
	answerLimit = 16 << 20
	attrSize    = 56
)

// wantContent is set beside the flags of an open(2): the answer may have all of a small file in it.
const wantContent = 1 << 31

// What the host says of a folder that it lists.
const (
	listWatched = 1 << iota // it tells of every change from now on
	listMore                // another part follows
	listSettled             // nothing has come or gone for longer than clocks are coarse
)

// What has happened on the host to something that the guest may have in its caches.
const (
	eventChanged = 1 // the content or the attributes of a name
	eventEntry   = 2 // a name is there now, or is not
	eventTree    = 3 // whatever is below a folder
)

var errMalformed = errors.New("the host sent an invalid message")

// encoder makes the part of a request that depends on its operation.
type encoder struct{ data []byte }

func (e *encoder) u32(value uint32) *encoder {
	e.data = binary.LittleEndian.AppendUint32(e.data, value)
	return e
}
func (e *encoder) u64(value uint64) *encoder {
	e.data = binary.LittleEndian.AppendUint64(e.data, value)
	return e
}
func (e *encoder) text(value string) *encoder {
	e.data = binary.LittleEndian.AppendUint16(e.data, uint16(len(value)))
	e.data = append(e.data, value...)
	return e
}
func (e *encoder) rest(value []byte) *encoder { e.data = append(e.data, value...); return e }

// decoder reads an answer; the first thing that is missing fails all the rest.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) take(count int) []byte {
	if d.err != nil || len(d.data) < count {
		d.err = errMalformed
		return make([]byte, count)
	}
	taken := d.data[:count]
	d.data = d.data[count:]
	return taken
}
func (d *decoder) u8() uint8    { return d.take(1)[0] }
func (d *decoder) u32() uint32  { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64  { return binary.LittleEndian.Uint64(d.take(8)) }
func (d *decoder) text() string { return string(d.take(int(binary.LittleEndian.Uint16(d.take(2))))) }

// Attributes are what stat(2) says of a file on the host. Times are nanoseconds.
type Attributes struct {
	mode, links                uint32
	inode, size, blocks        uint64
	accessed, written, changed int64
}

func (d *decoder) attributes() Attributes {
	return Attributes{
		mode: d.u32(), links: d.u32(), inode: d.u64(), size: d.u64(), blocks: d.u64(),
		accessed: int64(d.u64()), written: int64(d.u64()), changed: int64(d.u64()),
	}
}

// sameContent: nothing was written to the file between the two.
func (a Attributes) sameContent(other Attributes) bool {
	return a.inode == other.inode && a.size == other.size && a.written == other.written && a.changed == other.changed
}

// frame is a whole request.
func frame(number uint32, op operation, folder uint8, body []byte) []byte {
	data := make([]byte, 0, 10+len(body))
	data = binary.LittleEndian.AppendUint32(data, uint32(6+len(body)))
	data = binary.LittleEndian.AppendUint32(data, number)
	return append(append(data, byte(op), folder), body...)
}

// readAnswer reads one answer or event.
func readAnswer(from io.Reader) (number uint32, errno uint32, body []byte, err error) {
	var head [12]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return 0, 0, nil, err
	}
	length := binary.LittleEndian.Uint32(head[:])
	if length < 8 || length > answerLimit {
		return 0, 0, nil, fmt.Errorf("%w: %d bytes", errMalformed, length)
	}
	body = newBody(int(length) - 8)
	_, err = io.ReadFull(from, body)
	return binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:]), body, err
}

// largeBodies are the memory of answers that are mostly some file's content: a megabyte each, which would keep the
// collector busy.
var largeBodies = sync.Pool{New: func() any { return (*[MaxData]byte)(make([]byte, MaxData)) }}

const largeBody = 64 << 10

func newBody(size int) []byte {
	if size < largeBody || size > MaxData {
		return make([]byte, size)
	}
	return largeBodies.Get().(*[MaxData]byte)[:size]
}

// freeBody takes back what newBody gave, whole.
func freeBody(body []byte) {
	if cap(body) == MaxData {
		largeBodies.Put((*[MaxData]byte)(body[:MaxData]))
	}
}
