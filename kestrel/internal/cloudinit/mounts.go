// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"context"
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

const fstabComment = "comment=cloudconfig"

// mountEntry is a row of fstab(5).
type mountEntry struct {
	device, target, fstype, options, dump, pass string
}

// applyMounts runs at every boot: there is no init here that would mount /etc/fstab.
func (r *Runner) applyMounts(ctx context.Context, config fields) error {
	var problems []error
	var entries []mountEntry
	for index, item := range asList(config["mounts"]) {
		entry, wanted, err := readMount(item)
		if err != nil {
			problems = append(problems, fmt.Errorf("mount %d: %w", index+1, err))
		} else if wanted {
			entries = append(entries, entry)
		}
	}
	if swap, ok := asFields(config["swap"]); ok {
		if entry, wanted, err := r.makeSwap(swap); err != nil {
			problems = append(problems, fmt.Errorf("swap: %w", err))
		} else if wanted {
			entries = append(entries, entry)
		}
	}
	if err := r.writeFstab(entries); err != nil {
		problems = append(problems, err)
	}
	for _, entry := range entries {
		if err := r.mount(ctx, entry); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", entry.device, err))
		}
	}
	return errors.Join(problems...)
}

// readMount fills upstream's defaults in; an entry of one field, or with an empty second one, takes a mount away.
func readMount(item any) (entry mountEntry, wanted bool, err error) {
	list, ok := item.([]any)
	if !ok {
		return entry, false, errors.New("it is not a list")
	}
	values := []string{"", "", "auto", "defaults,nofail", "0", "2"}
	if len(list) > len(values) {
		return entry, false, errors.New("it has more than six fields")
	}
	for index, value := range list {
		if value == nil {
			if index == 1 {
				return entry, false, nil
			}
			continue
		}
		text, err := asText(value)
		if err != nil {
			return entry, false, err
		}
		if strings.ContainsAny(text, " \t\n") {
			return entry, false, fmt.Errorf("%q holds a space", text)
		}
		values[index] = text
	}
	if len(list) < 2 {
		return entry, false, nil
	}
	entry = mountEntry{values[0], values[1], values[2], values[3], values[4], values[5]}
	if !strings.ContainsAny(entry.device, "/=:") {
		entry.device = "/dev/" + entry.device
	}
	if entry.fstype == "swap" {
		entry.target = "none"
	} else if !filepath.IsAbs(entry.target) {
		return entry, false, fmt.Errorf("%q is no absolute path", entry.target)
	}
	return entry, true, nil
}

// writeFstab replaces the rows that an earlier boot wrote.
func (r *Runner) writeFstab(entries []mountEntry) error {
	path := r.path("/etc/fstab")
	content, output, err := readWithout(path, func(line string) bool { return strings.Contains(line, fstabComment) })
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fmt.Fprintf(output, "%s\t%s\t%s\t%s,%s\t%s\t%s\n", entry.device, entry.target, entry.fstype, entry.options,
			fstabComment, entry.dump, entry.pass)
	}
	if bytes.Equal(output.Bytes(), content) {
		return nil
	}
	return replaceFile(path, output.Bytes(), 0o644)
}

func (r *Runner) mount(ctx context.Context, entry mountEntry) error {
	if entry.fstype == "swap" {
		return swapOn(r.path(entry.device))
	}
	target := r.path(entry.target)
	if isMounted(target) {
		return nil
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	// The image's own program knows labels, helpers and every option.
	if program, err := r.findProgram("mount", r.commandEnvironment(nil)); err == nil {
		command := []string{program, "-t", entry.fstype, "-o", withoutFstabOptions(entry.options), entry.device, target}
		return r.runProgram(ctx, "mounts", command)
	}
	flags, data := mountOptions(entry.options)
	types := []string{entry.fstype}
	if entry.fstype == "auto" {
		types = []string{"ext4", "xfs", "btrfs", "vfat", "iso9660"}
	}
	var err error
	for _, fstype := range types {
		if err = unix.Mount(entry.device, target, fstype, flags, data); err == nil {
			return nil
		}
	}
	return fmt.Errorf("cannot mount it on %s: %w", entry.target, err)
}

var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"sync": unix.MS_SYNCHRONOUS, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME,
	"relatime": unix.MS_RELATIME, "bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC,
}

// Options that are for fstab's readers, not for the kernel.
func isFstabOption(option string) bool {
	switch option {
	case "", "defaults", "nofail", "auto", "noauto", "_netdev", "user", "users", "rw":
		return true
	}
	return strings.HasPrefix(option, "x-") || strings.HasPrefix(option, "comment=")
}

func mountOptions(text string) (flags uintptr, data string) {
	var rest []string
	for option := range strings.SplitSeq(text, ",") {
		if flag, ok := mountFlags[option]; ok {
			flags |= flag
		} else if !isFstabOption(option) {
			rest = append(rest, option)
		}
	}
	return flags, strings.Join(rest, ",")
}

func withoutFstabOptions(text string) string {
	options := []string{"rw"}
	for option := range strings.SplitSeq(text, ",") {
		if !isFstabOption(option) {
			options = append(options, option)
		}
	}
	return strings.Join(options, ",")
}

func isMounted(target string) bool {
	content, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(content)) {
		if words := strings.Fields(line); len(words) > 4 && words[4] == target {
			return true
		}
	}
	return false
}

// makeSwap makes a swap file unless it is there: size in bytes, with a unit, or "auto" (as much as the memory, at most
// maxsize).
func (r *Runner) makeSwap(swap fields) (entry mountEntry, wanted bool, err error) {
	name := swap.text("filename")
	if name == "" {
		name = "/swap.img"
	}
	if !filepath.IsAbs(name) || strings.ContainsAny(name, " \t\n") {
		return entry, false, fmt.Errorf("filename %q is no absolute path", name)
	}
	var size int64
	if text := swap.text("size"); text == "auto" {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			return entry, false, err
		}
		size = int64(info.Totalram) * int64(info.Unit)
		if limit := swap.text("maxsize"); limit != "" {
			most, err := parseSize(limit)
			if err != nil {
				return entry, false, fmt.Errorf("maxsize: %w", err)
			}
			size = min(size, most)
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
