// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// loadModules loads kernel modules in the order given. One that fails is a warning: whether the guest can do without
// it shows when the disk or the network it would have driven is looked for.
func loadModules(names []string, warn func(string)) {
	for _, name := range names {
		if err := loadModule(filepath.Join(contract.ModulesFolder, name)); err != nil {
			warn(fmt.Sprintf("cannot load the kernel module %s: %v", name, err))
		}
	}
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer func() { _ = file.Close() }()
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if err == unix.EEXIST { // built in, or loaded by an earlier name
		return nil
	}
	return err
}
