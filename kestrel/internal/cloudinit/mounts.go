// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	fstabComment        = "comment=cloudconfig"
	defaultMountOptions = "defaults,nofail"
)

// mountEntry is a row of fstab(5).
type mountEntry struct {
	device, target, fstype, options, dump, pass string
}

// applyMounts runs at every boot: there is no init here that would mount /etc/fstab.
func (r *Runner) applyMounts(ctx context.Context, config fields) error {
	entries, problems := readMounts(config)
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

// readMounts reads the list from its end: an entry without a place takes away those of its device before it.
func readMounts(config fields) (entries []mountEntry, problems []error) {
	defaults, err := mountDefaults(config["mount_default_fields"])
	if err != nil {
		problems = append(problems, fmt.Errorf("mount_default_fields: %w", err))
	}
	removed := make(map[string]bool)
	list := asList(config["mounts"])
	for index := len(list) - 1; index >= 0; index-- {
		entry, err := readMount(list[index], defaults)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("mount %d: %w", index+1, err))
		case entry.target == "":
			removed[entry.device] = true
		case !removed[entry.device]:
			entries = append(entries, entry)
		}
	}
	slices.Reverse(entries)
	slices.Reverse(problems)
	return entries, problems
}

// mountDefaults are the fields of an entry that leaves them out. An empty second one means no mount.
func mountDefaults(value any) ([]string, error) {
	defaults := []string{"", "", "auto", defaultMountOptions, "0", "2"}
	list := asList(value)
	if len(list) == 0 {
		return defaults, nil
	}
	if len(list) != len(defaults) {
		return defaults, fmt.Errorf("it has %d fields, not six", len(list))
	}
	for index, item := range list {
		text, err := asText(item)
		if err != nil {
			return defaults, err
		}
		defaults[index] = text
	}
	return defaults, nil
}

// Names of disks that may be given without /dev: upstream's own list.
var diskName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(x?[shv]d[a-z][0-9]*|sr[0-9]+)$`) })

// Names for which upstream asks a cloud's metadata, and a NoCloud guest has no answer.
var cloudName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(ami|root|swap|(ephemeral|ebs)[^:/]*)$`) })

// readMount fills defaults in. An entry without a target takes a mount away.
func readMount(item any, defaults []string) (entry mountEntry, err error) {
	list, ok := item.([]any)
	if !ok || len(list) == 0 {
		return entry, errors.New("it is not a list")
	}
	values := slices.Clone(defaults)
	if len(list) > len(values) {
		return entry, errors.New("it has more than six fields")
	}
	for index, value := range list {
		if value == nil {
			continue
		}
		if values[index], err = asText(value); err != nil {
			return entry, err
		}
		if index > 1 && strings.ContainsAny(values[index], " \t\n") {
			return entry, fmt.Errorf("%q holds a space", values[index])
		}
	}
	entry = mountEntry{values[0], values[1], values[2], values[3], values[4], values[5]}
	if diskName().MatchString(entry.device) {
		entry.device = "/dev/" + entry.device
	}
	switch {
	case entry.device == "" || strings.ContainsAny(entry.device+entry.target, "\n"):
		err = errors.New("it names no device")
	case entry.target == "":
	case cloudName().MatchString(entry.device):
		err = fmt.Errorf("there is no cloud here that would know what %q is", entry.device)
	case entry.fstype == "swap":
		entry.target = "none"
	case !filepath.IsAbs(entry.target):
		err = fmt.Errorf("%q is no absolute path", entry.target)
	}
	return entry, err
}

func (entry mountEntry) has(option string) bool {
	return slices.Contains(strings.Split(entry.options, ","), option)
}

// writeFstab replaces the rows that an earlier boot wrote.
func (r *Runner) writeFstab(entries []mountEntry) error {
	path := r.path("/etc/fstab")
	content, output, err := readWithout(path, func(line string) bool { return strings.Contains(line, fstabComment) })
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fmt.Fprintf(output, "%s\t%s\t%s\t%s,%s\t%s\t%s\n", escapeField(entry.device), escapeField(entry.target),
			entry.fstype, entry.options, fstabComment, entry.dump, entry.pass)
	}
	if bytes.Equal(output.Bytes(), content) {
		return nil
	}
	return replaceFile(path, output.Bytes(), 0o644)
}

// escapeField writes what would end a field of fstab(5) as its octal number.
func escapeField(text string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(text)
}

// mount mounts one entry unless it says noauto. A device that is missing is forgiven where the document itself, and not
// only our default, says nofail.
func (r *Runner) mount(ctx context.Context, entry mountEntry) error {
	if entry.has("noauto") {
		return nil
	}
	if strings.HasPrefix(entry.device, "/dev/") {
		entry.device = firstPartition(r.path(entry.device))
		if _, err := os.Stat(entry.device); err != nil {
			if entry.has("nofail") && entry.options != defaultMountOptions {
				r.options.Logf("cloud-init: mounts: there is no %s, and its entry says nofail", entry.device)
				return nil
			}
			return errors.New("this guest has no such device")
		}
	}
	if entry.fstype == "swap" {
		if !strings.HasPrefix(entry.device, "/dev/") {
			entry.device = r.path(entry.device)
		}
		return r.options.SwapOn(entry.device)
	}
	target := r.path(entry.target)
	if isMounted(target) {
		return nil
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	entry.target = target
	return r.options.Mount(ctx, entry.device, target, entry.fstype, entry.options)
}

// firstPartition is what upstream takes of a disk that has partitions.
func firstPartition(device string) string {
	if last := device[len(device)-1]; last >= '0' && last <= '9' {
		return device
	}
	if _, err := os.Stat(device + "1"); err == nil {
		return device + "1"
	}
	return device
}

// mountNow asks the image's own program, which knows labels, helpers and every option, or else the kernel.
func (r *Runner) mountNow(ctx context.Context, device, target, fstype, options string) error {
	if program, err := r.findProgram("mount", r.commandEnvironment(nil)); err == nil {
		command := []string{program, "-t", fstype, "-o", withoutFstabOptions(options), device, target}
		return r.options.RunProgram(ctx, "mounts", command)
	}
	flags, data := mountOptions(options)
	types := []string{fstype}
	if fstype == "auto" {
		types = []string{"ext4", "xfs", "btrfs", "vfat", "iso9660"}
	}
	var err error
	for _, fstype := range types {
		if err = unix.Mount(device, target, fstype, flags, data); err == nil {
			return nil
		}
	}
	return fmt.Errorf("cannot mount it on %s: %w", target, err)
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
