// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/copytree"
)

const (
	blockBegin = "# kestrel: begin"
	blockEnd   = "# kestrel: end"
)

// Names are the files by which a guest knows its own and others' names. Root is "/" but in tests; Runtime is a folder
// that can always be written, for files that lie on a read-only disk.
type Names struct {
	Root    string
	Runtime string
}

// Write sets the kernel's hostname and writes /etc/hostname, /etc/hosts and /etc/resolv.conf.
func (n Names) Write(hostname string, hosts map[string][]string, addresses []string, resolvers Resolvers) error {
	var problems []error
	if hostname != "" {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			problems = append(problems, fmt.Errorf("cannot set the hostname %q: %w", hostname, err))
		}
		problems = append(problems, n.put("etc/hostname", []byte(hostname+"\n")))
	}
	existing, _ := os.ReadFile(filepath.Join(n.Root, "etc/hosts"))
	problems = append(problems, n.put("etc/hosts", renderHosts(existing, hostname, hosts, addresses)))
	if len(resolvers.Nameservers) > 0 {
		problems = append(problems, n.put("etc/resolv.conf", renderResolvConf(resolvers)))
	}
	return errors.Join(problems...)
}

// renderHosts keeps what the image or a person wrote and replaces the part between the agent's own two marks.
func renderHosts(existing []byte, hostname string, hosts map[string][]string, addresses []string) []byte {
	kept, hasLoopback := withoutBlock(existing)
	var block bytes.Buffer
	block.WriteString(blockBegin + " (written at every boot)\n")
	if !hasLoopback {
		block.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	}
	if hostname != "" {
		own := "127.0.1.1"
		if len(addresses) > 0 {
			own, _, _ = strings.Cut(addresses[0], "/")
		}
		names := hostname
		if short, _, dotted := strings.Cut(hostname, "."); dotted {
			names += " " + short
		}
		fmt.Fprintf(&block, "%s %s\n", own, names)
	}
	others := make([]string, 0, len(hosts))
	for address := range hosts {
		others = append(others, address)
	}
	sort.Strings(others)
	for _, address := range others {
		fmt.Fprintf(&block, "%s %s\n", address, strings.Join(hosts[address], " "))
	}
	block.WriteString(blockEnd + "\n")
	return append(kept, block.Bytes()...)
}

func withoutBlock(existing []byte) (kept []byte, hasLoopback bool) {
	inside := false
	for line := range strings.Lines(string(existing)) {
		switch {
		case strings.HasPrefix(line, blockBegin):
			inside = true
		case strings.HasPrefix(line, blockEnd):
			inside = false
		case !inside:
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "127.0.0.1" {
				hasLoopback = hasLoopback || strings.Contains(line, "localhost")
			}
			kept = append(kept, line...)
		}
	}
	if len(kept) > 0 && kept[len(kept)-1] != '\n' {
		kept = append(kept, '\n')
	}
	return kept, hasLoopback
}

func renderResolvConf(resolvers Resolvers) []byte {
	var text bytes.Buffer
	if len(resolvers.Search) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(resolvers.Search, " "))
	}
	for _, server := range resolvers.Nameservers {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	return text.Bytes()
}

// put makes path (relative to the root) read as content. It writes only what differs; a link is followed, one that
// leads nowhere gets its target made, and what cannot be written is covered by a file from the runtime folder.
func (n Names) put(path string, content []byte) error {
	target := filepath.Join(n.Root, path)
	if current, err := os.ReadFile(target); err == nil && bytes.Equal(current, content) {
		return nil
	}
	err := writeThrough(target, content)
	if err == nil {
		return nil
	}
	if covering := n.cover(target, content); covering != nil {
		return fmt.Errorf("cannot write /%s: %w (%w)", path, err, covering)
	}
	return nil
}

// writeThrough writes in place, so that the file keeps its owner and mode, and makes what is missing on the way.
func writeThrough(target string, content []byte) error {
	err := overwrite(target, content)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	if link, linkErr := os.Readlink(target); linkErr == nil {
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(target), link)
		}
		if os.MkdirAll(filepath.Dir(link), 0o755) == nil && os.WriteFile(link, content, 0o644) == nil {
			return nil
		}
		if err := os.Remove(target); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, content, 0o644)
}

// overwrite never empties the file: ext4 would write an emptied one to its disk at once, while whoever waits for the
// guest waits for that, too.
func overwrite(target string, content []byte) error {
	file, err := os.OpenFile(target, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		if err = file.Truncate(int64(len(content))); errors.Is(err, unix.EINVAL) {
			err = nil // no regular file: it has no length
		}
	}
	return errors.Join(err, file.Close())
}

// cover bind-mounts a file of the runtime folder over one that cannot be written. Over one that is not there, or a link
// that leads nowhere, nothing can be mounted: then its whole folder is covered by a copy, in which it can be made.
func (n Names) cover(target string, content []byte) error {
	if err := os.MkdirAll(n.Runtime, 0o755); err != nil {
		return err
	}
	source := filepath.Join(n.Runtime, filepath.Base(target))
	if err := os.WriteFile(source, content, 0o644); err != nil {
		return err
	}
	err := unix.Mount(source, target, "", unix.MS_BIND, "")
	if _, missing := os.Stat(target); missing == nil {
		return err
	}
	if replace(target, content) == nil {
		return nil // the folder is covered already, or was never the trouble
	}
	if err := n.coverFolder(filepath.Dir(target)); err != nil {
		return err
	}
	return replace(target, content)
}

// replace puts a new file where none is, or a link that leads nowhere.
func replace(target string, content []byte) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(target, content, 0o644)
}

// coverFolder bind-mounts a copy in the runtime folder over a folder that cannot be written.
func (n Names) coverFolder(folder string) error {
	if err := refuseMountsBelow(folder); err != nil {
		return err
	}
	source := filepath.Join(n.Runtime, filepath.Base(folder))
	err := copytree.Entry(folder, source)
	if err == nil {
		err = unix.Mount(source, folder, "", unix.MS_BIND, "")
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(source))
	}
	return nil
}

// refuseMountsBelow keeps a volume from being hidden, and its content from being copied into RAM.
func refuseMountsBelow(folder string) error {
	var own unix.Stat_t
	if err := unix.Stat(folder, &own); err != nil {
		return err
	}
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		var found unix.Stat_t
		if err := unix.Lstat(path, &found); err != nil {
			return err
		}
		if found.Dev != own.Dev {
			return fmt.Errorf("%s is a mount of its own", path)
		}
		return nil
	})
}

// RuntimeNames are the guest's own, with the runtime folder under /run.
func RuntimeNames() Names { return Names{Root: "/", Runtime: filepath.Dir(contract.SessionSocket)} }
