// SPDX-License-Identifier: Apache-2.0

// Package modules loads kernel modules when something asks for them: the kernel itself (a mount, a kind of network
// link, a socket family), a program of the image, or a person.
//
// The host attaches one read-only disk with the kernel's modules to every VM. Nothing touches it until the workload
// has been started or the first module is asked for. The kernel is told to run this program as its modprobe, so an
// image needs no userland for it.
package modules

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// tables are those of depmod(8) in a lib/modules/VERSION, and what /etc/modprobe.d says.
type tables struct {
	folder string
	config config
}

// module is one that can be loaded.
type module struct {
	name  string
	files []string // below the folder, in the order of loading; the last is its own
}

// plainName is how the kernel spells a module's name or an alias: dashes are underscores, but not in ranges.
func plainName(name string) string {
	var plain strings.Builder
	inRange := false
	for index := range len(name) {
		char := name[index]
		switch {
		case char == '[':
			inRange = true
		case char == ']':
			inRange = false
		case char == '-' && !inRange:
			char = '_'
		}
		plain.WriteByte(char)
	}
	return plain.String()
}

func moduleName(file string) string {
	return plainName(strings.TrimSuffix(filepath.Base(file), ".ko"))
}

// find returns the modules that a name or an alias means; builtIn: it is part of the kernel.
func (t tables) find(name string) (found []module, builtIn bool) {
	wanted := plainName(name)
	if names := t.config.resolve(wanted); len(names) > 0 {
		for _, real := range names {
			found = append(found, t.findAll(real)...)
		}
		return found, false
	}
	if found = t.findAll(wanted); len(found) > 0 {
		return found, false
	}
	if t.isBuiltIn(wanted) {
		return nil, true
	}
	for _, real := range t.resolve(wanted) {
		if !t.config.blacklist[real] {
			found = append(found, t.findAll(real)...)
		}
	}
	return found, false
}

// findAll is the module of exactly that name, if there is one.
func (t tables) findAll(name string) []module {
	var found []module
	t.scan("modules.dep", func(line string) bool {
		file, dependencies, _ := strings.Cut(line, ":")
		if moduleName(file) != name {
			return true
		}
		entry := module{name: name}
		for _, dependency := range strings.Fields(dependencies) {
			entry.files = append([]string{dependency}, entry.files...) // the line names last what comes first
		}
		entry.files = append(entry.files, file)
		found = []module{entry}
		return false
	})
	return found
}

func (t tables) isBuiltIn(name string) (found bool) {
	t.scan("modules.builtin", func(line string) bool {
		found = moduleName(line) == name
		return !found
	})
	return found
}

// resolve lists the modules with an alias that matches.
func (t tables) resolve(alias string) (names []string) {
	t.scan("modules.alias", func(line string) bool {
		if rest, is := strings.CutPrefix(line, "alias "); is {
			if at := strings.LastIndexByte(rest, ' '); at > 0 && matches(rest[:at], alias) {
				names = append(names, plainName(rest[at+1:]))
			}
		}
		return true
	})
	return names
}

// softdeps are what a module wants loaded before and after it, if it is there.
func (t tables) softdeps(name string) (before, after []string) {
	t.scan("modules.softdep", func(line string) bool {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "softdep" || plainName(fields[1]) != name {
			return true
		}
		var list *[]string
		for _, field := range fields[2:] {
			switch field {
			case "pre:":
				list = &before
			case "post:":
				list = &after
			default:
				if list != nil {
					*list = append(*list, field)
				}
			}
		}
		return true
	})
	return before, after
}

// scan reads a table line by line until visit says that it has seen enough. A table that is missing is empty.
func (t tables) scan(name string, visit func(line string) bool) {
	file, err := os.Open(filepath.Join(t.folder, name))
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && visit(lines.Text()) {
	}
}

// matches compares with an alias's pattern. Most begin with letters that differ, which is cheaper to see.
func matches(pattern, name string) bool {
	if pattern == "" || (pattern[0] != name[0] && strings.IndexByte("*?[", pattern[0]) < 0) {
		return false
	}
	matched, err := path.Match(plainName(pattern), name)
	return err == nil && matched
}
