// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	sudoersPath = "/etc/sudoers.d/90-cloud-init-users"
	sudoersMode = 0o440
)

// addSudo writes the rules where upstream writes them.
func (r *Runner) addSudo(name string, value any) error {
	if text, ok := value.(string); ok {
		value = []any{text} // a rule may hold commas
	}
	if _, isBool := value.(bool); isBool || value == nil {
		return nil
	}
	rules, err := asTexts(value)
	if err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	var lines strings.Builder
	fmt.Fprintf(&lines, "\n# User rules for %s\n", name)
	count := 0
	for _, rule := range rules {
		if strings.ContainsAny(rule, "\n") {
			return errors.New("sudo: a rule is one line")
		}
		if rule = strings.TrimSpace(rule); rule != "" && !strings.EqualFold(rule, "false") {
			fmt.Fprintf(&lines, "%s %s\n", name, rule)
			count++
		}
	}
	if count == 0 {
		return nil
	}
	path := r.path(sudoersPath)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sudo: %w", err)
	}
	if bytes.Contains(content, []byte(lines.String())) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	content = append(content, lines.String()...)
	if err := os.WriteFile(path, content, sudoersMode); err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	if err := os.Chmod(path, sudoersMode); err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	return r.includeSudoers()
}

// includeSudoers makes sudo read the folder, which an image's own sudoers normally does already.
func (r *Runner) includeSudoers() error {
	path := r.path("/etc/sudoers")
	content, err := os.ReadFile(path)
	if err != nil { // no sudo in this image (yet): the package brings its own
		return nil
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "#includedir /etc/sudoers.d" || line == "@includedir /etc/sudoers.d" {
			return nil
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	_, err = file.WriteString("\n#includedir /etc/sudoers.d\n")
	return errors.Join(err, file.Close())
}
