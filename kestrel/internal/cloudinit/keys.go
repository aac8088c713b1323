// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// keysText says of every key of upstream's schema what becomes of it here. docs/reference/cloud-config.md is made of
// it, and so is what a guest reports: one truth for both.
//
//go:embed keys.txt
var keysText string

// keyState is what the agent does with a key.
type keyState string

const (
	keyDone     keyState = "done"
	keyReported keyState = "reported" // not done, and named in the VM's state
	keyIgnored  keyState = "ignored"  // asks for nothing of a guest like this one, upstream's included
)

// keyRow is one line of keys.txt. harmless are values that ask for nothing.
type keyRow struct {
	state    keyState
	harmless []string
}

// keyRows are the rows by path. A path that ends in nothing of the table below it is not looked into.
var keyRows = sync.OnceValue(func() map[string]keyRow {
	rows := make(map[string]keyRow)
	for line := range strings.Lines(keysText) {
		line, _, _ = strings.Cut(line, "|")
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		row := keyRow{state: keyState(words[0])}
		if len(words) > 3 && words[2] == "unless" {
			row.harmless = words[3:]
		}
		rows[words[1]] = row
	}
	return rows
})

var keyParents = sync.OnceValue(func() map[string]bool {
	parents := make(map[string]bool)
	for path := range keyRows() {
		for index, char := range path {
			if char == '.' {
				parents[path[:index]] = true
				parents[strings.TrimSuffix(path[:index], "[]")] = true
			}
		}
	}
	return parents
})

// findUndone gives the paths of a document's keys that are not done: those that the table says so of, and those that it
// does not know.
func findUndone(config map[string]any) []string {
	undone := make(map[string]bool)
	for key, value := range config {
		checkKey(undone, key, key, value)
	}
	return slices.Sorted(maps.Keys(undone))
}

// checkKey looks a path up; shown is the same path as the document spells it.
func checkKey(undone map[string]bool, path, shown string, value any) {
	row, known := keyRows()[path]
	switch {
	case value == nil && known:
	case !known, row.state == keyReported:
		if !row.isHarmless(value) {
			undone[shown] = true
		}
	case row.state == keyDone && keyParents()[path]:
		checkBelow(undone, path, shown, value)
	}
}

func checkBelow(undone map[string]bool, path, shown string, value any) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			if mapping, ok := item.(map[string]any); ok {
				checkBelow(undone, path+"[]", shown+"[]", mapping)
			}
		}
	case map[string]any:
		for key, setting := range value {
			if path == "users" { // {name: settings}
				checkBelow(undone, "users[]", "users[]", setting)
				continue
			}
			below := path + "." + strings.ReplaceAll(key, "-", "_")
			if _, known := keyRows()[path+".*"]; known {
				below = path + ".*"
			}
			checkKey(undone, below, shown+"."+key, setting)
		}
	}
}

func (row keyRow) isHarmless(value any) bool {
	return slices.Contains(row.harmless, strings.ToLower(fmt.Sprint(value))) ||
		(slices.Contains(row.harmless, "false") && !asBool(value, true)) ||
		(slices.Contains(row.harmless, "true") && asBool(value, false))
}
