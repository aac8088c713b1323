// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeSwap makes a swap file unless it is there: size in bytes, with a unit, or "auto" (at most maxsize).
func (r *Runner) makeSwap(swap fields) (entry mountEntry, wanted bool, err error) {
	name := swap.text("filename")
	if name == "" {
		name = "/swap.img"
	}
	if !filepath.IsAbs(name) || strings.ContainsAny(name, " \t\n") {
		return entry, false, fmt.Errorf("filename %q is no absolute path", name)
	}
	var size int64
	if text := swap.text("size"); strings.EqualFold(text, "auto") {
		if size, err = r.suggestSwap(filepath.Dir(name), swap.text("maxsize")); err != nil {
			return entry, false, err
		}
	} else if text != "" {
		if size, err = parseSize(text); err != nil {
			return entry, false, fmt.Errorf("size: %w", err)
		}
	}
	if size == 0 {
		return entry, false, nil
	}
	if err := makeSwapFile(r.path(name), size); err != nil {
		return entry, false, err
	}
	return mountEntry{name, "none", "swap", "sw", "0", "0"}, true, nil
}

// suggestSwap is upstream's suggested_swapsize: as much as the memory up to 4 GiB, of more its square root in GiB, and
// no more than maxsize or, where that is not given, a quarter of what is free on the disk.
func (r *Runner) suggestSwap(folder, maxsize string) (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(r.path(folder), newFolderMode); err != nil {
		return 0, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(r.path(folder), &disk); err != nil {
		return 0, err
	}
	memory := int64(info.Totalram) * int64(info.Unit)
	free := int64(disk.Bfree) * disk.Frsize
	if maxsize == "" {
		return suggestedSwap(memory, min(free/4, 2*memory)), nil
	}
	most, err := parseSize(maxsize)
	if err != nil {
		return 0, fmt.Errorf("maxsize: %w", err)
	}
	return suggestedSwap(memory, min(most, free/10*9)), nil
}

func suggestedSwap(memory, most int64) int64 {
	const gibibyte = 1 << 30
	size := memory
	switch {
	case memory >= 16*gibibyte:
		size = int64(math.RoundToEven(math.Sqrt(float64(memory)/gibibyte))) * gibibyte
	case memory >= 4*gibibyte:
		size = 4 * gibibyte
	}
	return min(size, most)
}

// parseSize reads a number of bytes with an optional unit (K, M, G, T; powers of 1024).
func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(strings.ToUpper(strings.TrimSpace(text)), "B")
	factor := 1.0
	if digits != "" {
		if power := strings.IndexByte("KMGT", digits[len(digits)-1]); power >= 0 {
			factor = math.Pow(1024, float64(power+1))
			digits = digits[:len(digits)-1]
		}
	}
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || number < 0 || math.IsNaN(number) || number*factor > 1<<50 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return int64(number * factor), nil
}

// makeSwapFile allocates a file and writes the header that mkswap would write (include/linux/swap.h, union
// swap_header): version 1 and the last page at 1024, the signature at the end of the first page.
func makeSwapFile(path string, size int64) error {
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		return nil
	}
	page := int64(os.Getpagesize())
	pages := size / page
	if pages < 10 {
		return fmt.Errorf("%d bytes are too few", size)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(file.Fd()), 0, 0, pages*page)
	if err == nil {
		header := make([]byte, page)
		binary.NativeEndian.PutUint32(header[1024:], 1)
		binary.NativeEndian.PutUint32(header[1028:], uint32(pages-1))
		copy(header[page-10:], "SWAPSPACE2")
		_, err = file.WriteAt(header, 0)
	}
	if err == nil {
		err = file.Sync() // swapon refuses blocks that are not allocated yet
	}
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("cannot make %s: %w", path, err)
	}
	return nil
}

func swapOn(path string) error {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), 0, 0)
	if errno != 0 && errno != unix.EBUSY { // busy: it is in use already
		return fmt.Errorf("cannot swap on it: %w", errno)
	}
	return nil
}
