// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watch is a bell for a directory that another program writes to.
type watch struct {
	file  *os.File
	mutex sync.Mutex
	bells []chan struct{}
}

func newWatch(directory string) (*watch, error) {
	descriptor, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot follow logs: %w", err)
	}
	if _, err := unix.InotifyAddWatch(descriptor, directory, unix.IN_MODIFY|unix.IN_CREATE); err != nil {
		_ = unix.Close(descriptor)
		return nil, fmt.Errorf("cannot follow logs: %w", err)
	}
	w := &watch{file: os.NewFile(uintptr(descriptor), "inotify")}
	go w.loop()
	return w, nil
}

func (w *watch) loop() {
	events := make([]byte, 64<<10)
	for {
		if _, err := w.file.Read(events); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				_ = w.file.Close()
			}
			return
		}
		w.mutex.Lock()
		for _, bell := range w.bells {
			close(bell)
		}
		w.bells = nil
		w.mutex.Unlock()
	}
}

func (w *watch) arm() <-chan struct{} {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	bell := make(chan struct{})
	w.bells = append(w.bells, bell)
	return bell
}

func (w *watch) Close() { _ = w.file.Close() }
