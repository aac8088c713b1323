// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// server answers requests as a host would, over as many connections as it is given.
type server struct {
	t      *testing.T
	answer func(op operation, body []byte) (syscall.Errno, []byte)

	mutex sync.Mutex
	seen  []operation
}

func (s *server) serve(conn net.Conn) {
	_, _ = io.WriteString(conn, "volant-folders-test\n")
	for {
		var head [10]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.LittleEndian.Uint32(head[:])-6)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		op := operation(head[8])
		errno, reply := syscall.Errno(0), []byte(nil)
		if op != opHello {
			s.mutex.Lock()
			s.seen = append(s.seen, op)
			s.mutex.Unlock()
			errno, reply = s.answer(op, body)
		}
		if errno == noAnswer {
			_ = conn.Close()
			return
		}
		if _, err := conn.Write(makeAnswer(head[4:8], errno, reply)); err != nil {
			return
		}
	}
}

var owner = fuse.Owner{Uid: 1000, Gid: 1000}

// noAnswer has the server end its connection instead.
const noAnswer = syscall.Errno(0xFFFF)

func makeAnswer(number []byte, errno syscall.Errno, body []byte) []byte {
	data := binary.LittleEndian.AppendUint32(nil, uint32(8+len(body)))
	data = append(data, number...)
	data = binary.LittleEndian.AppendUint32(data, uint32(errno))
	return append(data, body...)
}

type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error { return nil }
func (pipes) Addr() net.Addr { return nil }

func connect(s *server, listener pipes) {
	ours, theirs := net.Pipe()
	go s.serve(theirs)
	listener <- ours
}

func startHost(t *testing.T, s *server) (*Host, pipes) {
	t.Helper()
	host, listener := newHost(), make(pipes, 4)
	go func() { _ = host.Serve(listener) }()
	t.Cleanup(func() { close(listener) })
	return host, listener
}

func packAttributes(mode uint32, inode uint64) []byte {
	return new(encoder).u32(mode).u32(1).u64(inode).u64(7).u64(8).u64(1).u64(2).u64(3).data
}

func TestManyAskAtOnce(t *testing.T) {
	s := &server{t: t, answer: func(_ operation, body []byte) (syscall.Errno, []byte) { return 0, body }}
	host, listener := startHost(t, s)
	connect(s, listener)
	var asking sync.WaitGroup
	for number := range 200 {
		asking.Go(func() {
			answer, _, errno := host.ask(context.Background(), opStat, 0, new(encoder).u32(uint32(number)).data)
			if errno != 0 || answer.u32() != uint32(number) {
				t.Errorf("%d: %v", number, errno)
			}
		})
	}
	asking.Wait()
}

func TestARequestOutlivesItsConnection(t *testing.T) {
	var first sync.Once
	s := &server{t: t}
	host, listener := startHost(t, s)
	s.answer = func(operation, []byte) (syscall.Errno, []byte) {
		errno := syscall.Errno(0)
		first.Do(func() {
			errno = noAnswer
			connect(s, listener)
		})
		return errno, []byte("done")
	}
	connect(s, listener)
	answer, again, errno := host.ask(context.Background(), opUnlink, 0, nil)
	if errno != 0 || !again || string(answer.data) != "done" {
		t.Errorf("answer %v, again %v, %v", answer, again, errno)
	}
}

func TestWhatWasDoneAlreadyIsNoFailure(t *testing.T) {
	calls := 0
	s := &server{t: t}
	host, listener := startHost(t, s)
	s.answer = func(operation, []byte) (syscall.Errno, []byte) {
		if calls++; calls == 1 { // it is done, and the answer is lost
			connect(s, listener)
			return noAnswer, nil
		}
		return syscall.ENOENT, nil
	}
	connect(s, listener)
	folder := newFolder(0, host, owner)
	if _, _, errno := folder.askOnce(context.Background(), opUnlink, new(encoder).text("x"), syscall.ENOENT); errno != 0 {
		t.Errorf("the first try had removed it: %v", errno)
	}
	if _, _, errno := folder.askOnce(context.Background(), opUnlink, new(encoder).text("x"), syscall.ENOENT); errno != syscall.ENOENT {
		t.Errorf("nothing was there: %v", errno)
	}
}

func TestAHostThatStaysAwayIsAnError(t *testing.T) {
	host, _ := startHost(t, &server{t: t})
	host.mutex.Lock()
	host.awayPatience = 10 * time.Millisecond
	host.mutex.Unlock()
	if _, _, errno := host.ask(context.Background(), opStat, 0, nil); errno != syscall.EIO {
		t.Errorf("errno is %v", errno)
	}
	host.mutex.Lock()
	host.awayPatience = time.Hour
	host.mutex.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, errno := host.ask(ctx, opStat, 0, nil); errno != syscall.EINTR {
		t.Errorf("whoever is interrupted gets %v", errno)
	}
}

func TestAFolderIsFetchedOnce(t *testing.T) {
	s := &server{t: t, answer: func(operation, []byte) (syscall.Errno, []byte) {
		reply := append([]byte{1}, new(encoder).u32(1).data...)
		return 0, append(append(reply, packAttributes(unix.S_IFREG|0o644, 5)...), new(encoder).text("name").data...)
	}}
	host, listener := startHost(t, s)
	connect(s, listener)
	folder := newFolder(0, host, owner)
	fs.NewNodeFS(folder.root, &fs.Options{})
	known := &folder.root.listing
	for range 3 {
		if entries, errno := known.load(context.Background(), folder, folder.root.path); errno != 0 || len(entries) != 1 {
			t.Fatalf("entries %v, %v", entries, errno)
		}
	}
	if len(s.seen) != 1 {
		t.Errorf("asked %v", s.seen)
	}
	if found, sure, watched := known.find("name"); found == nil || !sure || !watched || found.inode != 5 {
		t.Errorf("found %v, %v, %v", found, sure, watched)
	}
	if found, sure, _ := known.find("other"); found != nil || !sure {
		t.Errorf("a name that is not there: %v, %v", found, sure)
	}
	folder.event(eventEntry, "", "other")
	if _, sure, _ := known.find("other"); sure {
		t.Error("a name of which the host has told is to be asked for")
	}
	folder.event(eventTree, "", "")
	if _, sure, watched := known.find("name"); sure || watched {
		t.Error("nothing is known after everything may have changed")
	}
	if folder.entries.value != 0 {
		t.Errorf("%d entries are counted of none", folder.entries.value)
	}
}

func TestWhatChangesWhileAFolderIsFetchedIsNotKept(t *testing.T) {
	s := &server{t: t}
	host, listener := startHost(t, s)
	folder := newFolder(0, host, owner)
	s.answer = func(operation, []byte) (syscall.Errno, []byte) {
		folder.root.listing.doubt("late")
		return 0, append([]byte{1}, new(encoder).u32(0).data...)
	}
	connect(s, listener)
	if _, errno := folder.root.listing.load(context.Background(), folder, folder.root.path); errno != 0 {
		t.Fatal(errno)
	}
	if _, sure, _ := folder.root.listing.find("late"); sure {
		t.Error("the listing is older than the change")
	}
}

func TestMalformedAnswersAreErrors(t *testing.T) {
	for _, body := range [][]byte{nil, {1}, {1, 9, 0, 0, 0}, {1, 1, 0, 0, 0, 1, 2}} {
		s := &server{t: t, answer: func(operation, []byte) (syscall.Errno, []byte) { return 0, body }}
		host, listener := startHost(t, s)
		connect(s, listener)
		folder := newFolder(0, host, owner)
		if _, _, errno := folder.list(context.Background(), ""); errno != syscall.EIO {
			t.Errorf("%v: %v", body, errno)
		}
	}
	reader, writer := net.Pipe()
	go func() { _, _ = writer.Write([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0}) }()
	if _, _, _, err := readAnswer(reader); !errors.Is(err, errMalformed) {
		t.Errorf("error is %v", err)
	}
}
