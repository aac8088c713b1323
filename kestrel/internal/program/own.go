// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// ExecImagesOwn becomes the image's own program of a name for which kestrel's folder, first in PATH, has an answer
// too. It returns only where there is none.
func ExecImagesOwn(name string, arguments []string) error {
	path, err := findImagesOwn(name, os.Getenv("PATH"))
	if err != nil {
		return err
	}
	return Explain(path, unix.Exec(path, append([]string{name}, arguments...), os.Environ()))
}

func findImagesOwn(name, searchPath string) (string, error) {
	for _, folder := range filepath.SplitList(searchPath + ":" + contract.DefaultPath) {
		candidate := filepath.Join(folder, name)
		if folder == "" || strings.HasPrefix(folder, contract.RuntimeFolder) || leadsToAgent(candidate) {
			continue
		}
		if path, err := examine(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("this image has no %s of its own", name)
}

// leadsToAgent keeps kestrel from starting itself for ever: a link of the image may lead to it.
func leadsToAgent(path string) bool {
	target, err := filepath.EvalSymlinks(path)
	return err == nil && (strings.HasPrefix(target, contract.RuntimeFolder+"/") || target == contract.AgentPath)
}
