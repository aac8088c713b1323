// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/stream"
)

// Argument of the agent's program makes it this.
const Argument = "serve-folders"

const (
	// A pipe whose other end is closed once all folders have their places.
	placedPipe = 3
	// The number of the first folder's /dev/fuse, the next one that of its mount; the others follow.
	firstDevice = 4
)

// order is what the program is told on its command line.
type order struct {
	PortName string `json:"port_name"`
	Mark     string `json:"mark"`
	Count    int    `json:"count"`
	Files    []int  `json:"files"` // the numbers of those that are a file
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
}

// Main serves the folders that PID 1 has mounted, until the guest ends. It is a process of its own: PID 1 must never wait
// for itself, and a guest without folders has nothing of this in its memory.
func Main(arguments []string, stderr io.Writer) int {
	if err := serve(arguments); err != nil {
		fmt.Fprintln(stderr, "kestrel: "+err.Error())
	}
	return 1
}

func serve(arguments []string) error {
	var ordered order
	if len(arguments) != 1 {
		return fmt.Errorf("%s is for the agent itself", Argument)
	}
	if err := json.Unmarshal([]byte(arguments[0]), &ordered); err != nil {
		return err
	}
	// Whoever ends everybody in order ends this last, by force.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	host := newHost()
	folders := make([]*Folder, 0, ordered.Count)
	servers := make([]*fuse.Server, 0, ordered.Count)
	for number := range ordered.Count {
		device := firstDevice + 2*number
		folder := newFolder(uint8(number), host, fuse.Owner{Uid: ordered.UID, Gid: ordered.GID})
		server, err := folder.attach("/dev/fd/"+strconv.Itoa(device), slices.Contains(ordered.Files, number))
		if err != nil {
			return err
		}
		folder.view = newView(os.NewFile(uintptr(device+1), "view"))
		folder.wakers = newWakers(folder.view)
		folders, servers = append(folders, folder), append(servers, server)
	}
	notify := startNotifying()
	host.Event = func(body []byte) {
		from := &decoder{data: body}
		number, kind, path := from.u8(), from.u8(), from.text()
		if from.err == nil && int(number) < len(folders) {
			notify(folders[number].event(kind, path, string(from.data)))
		}
	}
	host.Again = func(send func(operation, uint8, []byte)) {
		for _, folder := range folders {
			folder.reopen(send)
			notify(folder.event(eventTree, "", ""))
		}
	}
	var serving sync.WaitGroup
	for _, server := range servers {
		serving.Go(server.Serve)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(placedPipe, "placed"))
		for _, folder := range folders {
			_, _ = folder.view.own() // from here on nobody is kept from unmounting what was placed
		}
	}()
	go func() { _ = host.Serve(stream.ListenMarkedPort(ordered.PortName, ordered.Mark)) }()
	serving.Wait() // until they are unmounted
	return nil
}

// attach serves a device that was mounted by somebody else.
func (f *Folder) attach(device string, isFile bool) (*fuse.Server, error) {
	never := watchedTime
	raw := fs.NewNodeFS(f.root, &fs.Options{NegativeTimeout: &never, NullPermissions: true})
	if isFile {
		raw = singleFile{raw}
	}
	return fuse.NewServer(raw, device, &fuse.MountOptions{
		MaxWrite: MaxData, MaxReadAhead: MaxData, AllowOther: true, Name: "volant",
		IgnoreSecurityLabels: true, EnableSymlinkCaching: true, MaxBackground: mostRequests / 2,
		// There are no setuid bits here: the kernel need not look for capabilities before each write.
		ExtraCapabilities: fuse.CAP_HANDLE_KILLPRIV_V2,
	})
}

// startNotifying returns what tells the kernel of changes, in order and one at a time. Whoever calls is never held up: the
// kernel may wait for an answer of ours before it listens.
func startNotifying() func(func()) {
	var mutex sync.Mutex
	var queue []func()
	more := make(chan struct{}, 1)
	go func() {
		for range more {
			mutex.Lock()
			acts := queue
			queue = nil
			mutex.Unlock()
			for _, act := range acts {
				act()
			}
		}
	}()
	return func(act func()) {
		mutex.Lock()
		queue = append(queue, act)
		mutex.Unlock()
		select {
		case more <- struct{}{}:
		default:
		}
	}
}

// flushPatience is how long a guest that ends waits for what it has not written yet.
const flushPatience = 5 * time.Second

// Flush has the kernel write what it holds for these folders, but does not wait for a host that is away.
func Flush(targets []string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, target := range targets {
			if descriptor, err := unix.Open(target, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
				_ = unix.Syncfs(descriptor)
				_ = unix.Close(descriptor)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(flushPatience):
	}
}
