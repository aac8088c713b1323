// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVariablesComeFromFiles(t *testing.T) {
	folder := t.TempDir()
	write(t, folder+"/..2026/WHO", "ana")
	write(t, folder+"/PLAIN", "two\nlines")
	write(t, folder+"/EMPTY", "")
	write(t, folder+"/MODE", "of the volume")
	write(t, folder+"/app.conf", "no variable")
	write(t, folder+"/NUL", "a\x00b")
	write(t, folder+"/LARGE", strings.Repeat("x", mostVariableBytes+1))
	write(t, folder+"/FOLDER/file", "")
	for link, target := range map[string]string{"..data": "..2026", "WHO": "..data/WHO"} {
		if err := os.Symlink(target, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	var warnings []string
	known := map[string]string{"MODE": "of the plugin", "KEPT": "yes"}
	found := readEnvironment([]string{folder, folder + "/missing"}, known, func(text string) { warnings = append(warnings, text) })
	want := map[string]string{"PLAIN": "two\nlines", "EMPTY": "", "MODE": "of the volume", "KEPT": "yes", "WHO": "ana"}
	if !maps.Equal(found, want) {
		t.Errorf("variables are %q", found)
	}
	told := strings.Join(warnings, "\n")
	for _, part := range []string{`"app.conf"`, `"NUL"`, `"LARGE"`, `"FOLDER"`, "missing"} {
		if !strings.Contains(told, part) {
			t.Errorf("nothing is said of %s: %s", part, told)
		}
	}
	if len(warnings) != 5 {
		t.Errorf("warnings are %q", warnings)
	}
}

func TestWithoutFoldersTheEnvironmentIsThePlugins(t *testing.T) {
	if found := readEnvironment(nil, nil, func(text string) { t.Error(text) }); found != nil {
		t.Errorf("variables are %q", found)
	}
}
