// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/volantvm/volant/kestrel/internal/passwd"
)

// applyKeys gives the document's own keys to the default user.
func (r *Runner) applyKeys(_ context.Context, config fields) error {
	keys, err := asKeys(config["ssh_authorized_keys"])
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return nil
	}
	return r.authorizeKeys(defaultUserName(config), keys)
}

// asKeys is a list of keys: a single text is one key, commas and all, or one a line; of a mapping the values count.
func asKeys(value any) ([]string, error) {
	if mapping, ok := value.(map[string]any); ok {
		var list []any
		for _, name := range slices.Sorted(maps.Keys(mapping)) {
			list = append(list, mapping[name])
		}
		value = list
	}
	if text, ok := value.(string); ok {
		value = nil
		var list []any
		for line := range strings.Lines(text) {
			list = append(list, line)
		}
		value = list
	}
	texts, err := asTexts(value)
	var keys []string
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" {
			keys = append(keys, text)
		}
	}
	return keys, err
}

// authorizeKeys adds keys to an account's authorized_keys, each once.
func (r *Runner) authorizeKeys(name string, keys []string) error {
	account, err := passwd.Lookup(r.options.Root, name)
	if err != nil {
		return err
	}
	folder := r.path(filepath.Join(account.Home, ".ssh"))
	path := filepath.Join(folder, "authorized_keys")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot add SSH keys: %w", err)
	}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot add SSH keys: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	for _, key := range keys {
		if !slices.Contains(lines, key) {
			lines = append(lines, key)
		}
	}
	text := strings.TrimLeft(strings.Join(lines, "\n"), "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot add SSH keys: %w", err)
	}
	for _, made := range []string{folder, path} {
		if err := os.Chown(made, int(account.UID), int(account.GID)); err != nil {
			return fmt.Errorf("cannot add SSH keys: %w", err)
		}
	}
	r.markDone(perInstance, keysGiven)
	r.noteKeys()
	return nil
}
