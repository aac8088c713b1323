// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// installer is how one package manager is asked.
type installer struct {
	program   string
	update    []string
	upgrade   []string
	install   []string
	separator string // between a package's name and its version
	env       []string
}

var installers = []installer{
	{
		program:   "apt-get",
		update:    []string{"--quiet", "update"},
		upgrade:   []string{"--option=Dpkg::Options::=--force-confold", "--assume-yes", "--quiet", "dist-upgrade"},
		install:   []string{"--option=Dpkg::Options::=--force-confold", "--assume-yes", "--quiet", "install"},
		separator: "=",
		env:       []string{"DEBIAN_FRONTEND=noninteractive"},
	},
	{program: "apk", update: []string{"update"}, upgrade: []string{"upgrade"}, install: []string{"add"}, separator: "="},
	{
		program: "dnf", update: []string{"-y", "makecache"}, upgrade: []string{"-y", "upgrade"},
		install: []string{"-y", "install"}, separator: "-",
	},
	{
		program: "microdnf", update: []string{"-y", "makecache"}, upgrade: []string{"-y", "upgrade"},
		install: []string{"-y", "install"}, separator: "-",
	},
	{
		program: "yum", update: []string{"-y", "makecache"}, upgrade: []string{"-y", "upgrade"},
		install: []string{"-y", "install"}, separator: "-",
	},
}

var packageKeys = []string{"packages", "package_update", "package_upgrade", "apt_update", "apt_upgrade"}

// installPackages updates, upgrades and installs, in upstream's order.
func (r *Runner) installPackages(ctx context.Context, config fields) error {
	upgrade := asBool(config["package_upgrade"], false) || asBool(config["apt_upgrade"], false)
	update := asBool(config["package_update"], false) || asBool(config["apt_update"], false) || upgrade
	entries := asList(config["packages"])
	if len(entries) == 0 && !update {
		return nil
	}
	var chosen *installer
	var path string
	for index := range installers {
		found, err := r.findProgram(installers[index].program, r.commandEnvironment(nil))
		if err == nil {
			chosen, path = &installers[index], found
			break
		}
	}
	if chosen == nil {
		return errors.New("this image has no package manager that the agent knows (apt, apk, dnf, yum)")
	}
	packages, err := packageNames(entries, chosen.program, chosen.separator)
	if err != nil {
		return err
	}
	if !r.options.HasNetwork() {
		return errors.New("cannot fetch packages: this VM has no network")
	}
	run := func(arguments []string, more ...string) error {
		command := append(append([]string{path}, arguments...), more...)
		return r.options.RunProgram(ctx, "packages", command, chosen.env...)
	}
	if update || len(packages) > 0 {
		if err := run(chosen.update); err != nil {
			return fmt.Errorf("cannot update the list of packages: %w", err)
		}
	}
	if upgrade {
		if err := run(chosen.upgrade); err != nil {
			return fmt.Errorf("cannot upgrade packages: %w", err)
		}
	}
	if len(packages) > 0 {
		if err := run(chosen.install, packages...); err != nil {
			return fmt.Errorf("cannot install %s: %w", strings.Join(packages, ", "), err)
		}
	}
	return nil
}

// packageNames reads names, [name, version] pairs, and mappings of a package manager's name to a list of these.
func packageNames(entries []any, program, separator string) ([]string, error) {
	var names []string
	for _, entry := range entries {
		if mapping, ok := entry.(map[string]any); ok {
			more, err := packagesByManager(mapping, program, separator)
			if err != nil {
				return nil, err
			}
			names = append(names, more...)
			continue
		}
		name, err := packageName(entry, separator)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func packagesByManager(mapping map[string]any, program, separator string) ([]string, error) {
	var names []string
	for manager, entries := range mapping {
		if manager == "snap" { // which keys.txt reports
			continue
		}
		if manager+"-get" != program {
			return nil, fmt.Errorf("this image has no package manager %q", manager)
		}
		more, err := packageNames(asList(entries), program, separator)
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	return names, nil
}

// packageName is a name that cannot be taken for an option.
func packageName(entry any, separator string) (string, error) {
	name, err := asText(entry)
	if pair, ok := entry.([]any); ok {
		var parts []string
		if parts, err = asTexts(pair); err != nil || len(parts) == 0 || len(parts) > 2 {
			return "", fmt.Errorf("%v is not [name, version]", entry)
		}
		name = strings.Join(parts, separator)
	}
	if err != nil {
		return "", err
	}
	if name == "" || strings.HasPrefix(name, "-") {
		return "", fmt.Errorf("%q is no name for a package", name)
	}
	return name, nil
}

// hasRoute says whether packets can leave this guest.
func hasRoute() bool {
	routes, _ := os.ReadFile("/proc/net/route")
	for line := range strings.Lines(string(routes)) {
		if words := strings.Fields(line); len(words) > 1 && words[1] == "00000000" {
			return true
		}
	}
	routes, _ = os.ReadFile("/proc/net/ipv6_route")
	for line := range strings.Lines(string(routes)) {
		words := strings.Fields(line)
		if len(words) == 10 && words[1] == "00" && strings.Trim(words[0], "0") == "" && words[9] != "lo" {
			return true
		}
	}
	return false
}
