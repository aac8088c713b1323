// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// configFolders are modprobe.d(5)'s, the strongest first: a file hides those of the same name in later folders.
var configFolders = []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"}

// config is what people may say about modules: the part of modprobe.d(5) without commands to run, but for one that is
// /bin/true or /bin/false, by which modules are kept out.
type config struct {
	blacklist map[string]bool
	never     map[string]bool
	options   map[string][]string
	aliases   [][2]string
}

func readConfig(folders []string) config {
	files := make(map[string]string)
	for _, folder := range folders {
		paths, _ := filepath.Glob(filepath.Join(folder, "*.conf"))
		for _, path := range paths {
			if _, hidden := files[filepath.Base(path)]; !hidden {
				files[filepath.Base(path)] = path
			}
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	settings := config{blacklist: map[string]bool{}, never: map[string]bool{}, options: map[string][]string{}}
	for _, name := range names {
		if data, err := os.ReadFile(files[name]); err == nil {
			settings.read(strings.ReplaceAll(string(data), "\\\n", " "))
		}
	}
	return settings
}

func (c *config) read(text string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 2 || strings.HasPrefix(fields[0], "#"):
		case fields[0] == "blacklist":
			c.blacklist[plainName(fields[1])] = true
		case fields[0] == "options":
			name := plainName(fields[1])
			c.options[name] = append(c.options[name], fields[2:]...)
		case fields[0] == "alias" && len(fields) > 2:
			c.aliases = append(c.aliases, [2]string{fields[1], plainName(fields[2])})
		case fields[0] == "install" && len(fields) > 2:
			if program := filepath.Base(fields[2]); program == "true" || program == "false" {
				c.never[plainName(fields[1])] = true
			}
		}
	}
}

// resolve lists the modules that the config gives an alias.
func (c *config) resolve(name string) (names []string) {
	for _, alias := range c.aliases {
		if matches(alias[0], name) {
			names = append(names, alias[1])
		}
	}
	return names
}
