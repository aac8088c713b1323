// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// mostVariableBytes is what Kubernetes lets a Secret or ConfigMap hold in all.
const mostVariableBytes = 1 << 20

var variableName = regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_]*\z`)

// readEnvironment adds variables from folders to those of the workload: each file is one, by its name, as a volume of a
// Secret or ConfigMap has them. What is hidden is the volume's own business. What cannot be taken is told to warn.
func readEnvironment(folders []string, environment map[string]string, warn func(string)) map[string]string {
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			warn(fmt.Sprintf("cannot read variables: %v", err))
		}
		for _, entry := range entries {
			name := entry.Name()
			if strings.HasPrefix(name, ".") {
				continue
			}
			value, err := readVariable(filepath.Join(folder, name))
			if err != nil {
				warn(fmt.Sprintf("cannot set variable %q: %v", name, err))
				continue
			}
			if environment == nil {
				environment = make(map[string]string)
			}
			environment[name] = value
		}
	}
	return environment
}

func readVariable(path string) (string, error) {
	if !variableName.MatchString(filepath.Base(path)) {
		return "", errors.New("a name has letters, digits and '_'")
	}
	// Follows links, which is what such volumes are made of; a folder fails when it is read.
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	value, err := io.ReadAll(io.LimitReader(file, mostVariableBytes+1))
	switch {
	case err != nil:
		return "", err
	case len(value) > mostVariableBytes:
		return "", fmt.Errorf("it has more than %d bytes", mostVariableBytes)
	case bytes.IndexByte(value, 0) >= 0:
		return "", errors.New("its value holds a NUL character, which no process can be given")
	}
	return string(value), nil
}
