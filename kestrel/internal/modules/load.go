// SPDX-License-Identifier: Apache-2.0

package modules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// errNotFound: no module has that name or alias.
var errNotFound = errors.New("this kernel has no such module")

// errNoDevice: the module is there, and this machine has nothing for it.
var errNoDevice = errors.New("this machine has no device for it")

// deepestSoftdep ends soft dependencies that lead in a circle.
const deepestSoftdep = 4

// loader loads modules by name. The kernel calls are replaced by tests.
type loader struct {
	tables
	dryRun bool
	say    func(format string, arguments ...any)

	insert   func(file *os.File, parameters string) error
	isLoaded func(name string) bool
}

func newLoader(folder string) loader {
	config := readConfig(configFolders)
	config.read(kvmAlias(readCPUInfo()))
	return loader{
		tables:   tables{folder: folder, config: config},
		say:      func(string, ...any) {},
		insert:   func(file *os.File, parameters string) error { return unix.FinitModule(int(file.Fd()), parameters, 0) },
		isLoaded: isLoaded,
	}
}

// Load loads a module for the agent itself.
func Load(name string) error {
	if isLoaded(name) {
		return nil
	}
	folder, err := Mount()
	if err != nil {
		return err
	}
	return newLoader(folder).load(name, nil)
}

func isLoaded(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/module", name))
	return err == nil
}

// load loads what a name or an alias means, with all that it needs. Of several modules one is enough.
func (l loader) load(name string, parameters []string) error {
	found, builtIn := l.find(name)
	if builtIn {
		return nil
	}
	if len(found) == 0 {
		return errNotFound
	}
	var problems []error
	for _, module := range found {
		if err := l.loadOne(module, parameters, 0); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) < len(found) {
		return nil
	}
	return errors.Join(problems...)
}

func (l loader) loadOne(wanted module, parameters []string, depth int) error {
	if l.isLoaded(wanted.name) || l.config.never[wanted.name] {
		return nil
	}
	before, after := l.softdeps(wanted.name)
	l.loadSoftly(before, depth)
	for _, file := range wanted.files {
		name := moduleName(file)
		own := l.config.options[name]
		if name == wanted.name {
			own = append(own[:len(own):len(own)], parameters...)
		}
		if err := l.insertFile(name, file, own); err != nil {
			return err
		}
	}
	l.loadSoftly(after, depth)
	return nil
}

// loadSoftly loads what a module can do without.
func (l loader) loadSoftly(names []string, depth int) {
	if depth >= deepestSoftdep {
		return
	}
	for _, name := range names {
		found, _ := l.find(name)
		for _, module := range found {
			_ = l.loadOne(module, nil, depth+1)
		}
	}
}

func (l loader) insertFile(name, path string, parameters []string) error {
	if l.isLoaded(name) {
		return nil
	}
	text := strings.Join(parameters, " ")
	l.say("insmod %s %s", filepath.Join(l.folder, path), text)
	if l.dryRun {
		return nil
	}
	file, err := os.Open(filepath.Join(l.folder, path))
	if err != nil {
		return fmt.Errorf("cannot load %s: %w", name, err)
	}
	defer func() { _ = file.Close() }()
	err = l.insert(file, text)
	switch {
	case errors.Is(err, unix.EEXIST): // somebody else was quicker
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("cannot load %s: only root can, and only while kernel.modules_disabled is 0", name)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("cannot load %s: %w", name, errNoDevice)
	case err != nil:
		return fmt.Errorf("cannot load %s: %w (dmesg may say more)", name, err)
	}
	return nil
}

// unload takes a module out, and what only it needed.
func (l loader) unload(name string) error {
	found, _ := l.find(name)
	if len(found) == 0 {
		return errNotFound
	}
	for _, module := range found {
		if !l.isLoaded(module.name) {
			continue
		}
		if err := unix.DeleteModule(module.name, unix.O_NONBLOCK); err != nil {
			return fmt.Errorf("cannot unload %s: %w", module.name, err)
		}
		for index := len(module.files) - 2; index >= 0; index-- {
			_ = unix.DeleteModule(moduleName(module.files[index]), unix.O_NONBLOCK) // in use by another, mostly
		}
	}
	return nil
}
