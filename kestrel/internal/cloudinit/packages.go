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

// installPackages updates, upgrades and installs, in upstream's order.
func (r *Runner) installPackages(ctx context.Context, config fields) error {
	upgrade := asBool(config["package_upgrade"], false)
	update := asBool(config["package_update"], false) || upgrade
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
	packages, err := packageNames(entries, chosen.separator)
	if err != nil {
		return err
	}
	if !r.options.HasNetwork() {
		return errors.New("cannot fetch packages: this VM has no network")
	}
	run := func(arguments []string, more ...string) error {
		command := append(append([]string{path}, arguments...), more...)
		return r.runProgram(ctx, "packages", command, chosen.env...)
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

// packageNames reads names and [name, version] pairs. A name may not be taken for an option.
func packageNames(entries []any, separator string) ([]string, error) {
	var names []string
	for _, entry := range entries {
		var name string
		switch entry := entry.(type) {
		case []any:
			parts, err := asTexts(entry)
			if err != nil || len(parts) == 0 || len(parts) > 2 {
				return nil, fmt.Errorf("%v is not [name, version]", entry)
			}
			name = strings.Join(parts, separator)
		case map[string]any:
			return nil, fmt.Errorf("packages for one package manager only are not supported: %v", entry)
		default:
			text, err := asText(entry)
			if err != nil {
				return nil, err
			}
			name = text
		}
		if name == "" || strings.HasPrefix(name, "-") {
			return nil, fmt.Errorf("%q is no name for a package", name)
		}
		names = append(names, name)
	}
	return names, nil
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
