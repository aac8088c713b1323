// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestUpstreamsExamples runs the documents of a folder, which tests/integration/kestrel fills with those that Debian's
// package brings, in a guest where no program is started. All that they ask for is either done or reported.
func TestUpstreamsExamples(t *testing.T) {
	folder := os.Getenv("VOLANT_CLOUD_CONFIG_EXAMPLES")
	if folder == "" {
		t.Skip("no folder in VOLANT_CLOUD_CONFIG_EXAMPLES")
	}
	needRoot(t)
	files, err := os.ReadDir(folder)
	if err != nil || len(files) < 20 {
		t.Fatalf("%d examples in %s (%v)", len(files), folder, err)
	}
	for _, file := range files {
		if file.IsDir() {
			continue
		}
		t.Run(file.Name(), func(t *testing.T) { runExample(t, readExample(t, filepath.Join(folder, file.Name()))) })
	}
}

func readExample(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var reader io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if reader, err = gzip.NewReader(file); err != nil {
			t.Fatal(err)
		}
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func runExample(t *testing.T, document []byte) {
	g := newGuest(t)
	started := 0
	g.runProgram = func(context.Context, string, []string, ...string) error { started++; return nil }
	runner, state := g.boot(string(document))
	for _, text := range state.Errors {
		if strings.Contains(text, "the agent failed") {
			t.Error(text)
		}
	}
	data := runner.data
	if len(data.config) == 0 && started+len(state.Errors)+len(state.UnknownModules) == 0 {
		t.Error("nothing was done and nothing was reported")
	}
	for _, path := range pathsOf("", data.config) {
		reported := slices.ContainsFunc(state.UnknownModules, func(name string) bool {
			return path == name || strings.HasPrefix(path, name+".") || strings.HasPrefix(path, name+"[]")
		})
		first, rest, _ := strings.Cut(path, ".")
		row := keyRows()[strings.TrimSuffix(first+"."+strings.ReplaceAll(rest, "-", "_"), ".")]
		if !reported && row.state == "" && !inFreeValue(path) {
			t.Errorf("%s is neither done nor reported: %q", path, state.UnknownModules)
		}
	}
}

// inFreeValue says whether a path leads into a value whose names are the document's own.
func inFreeValue(path string) bool {
	return strings.HasPrefix(path, "groups[].") || strings.HasPrefix(path, "groups.") || strings.Contains(path, ".groups.")
}

// pathsOf lists the paths of all keys whose value asks for something.
func pathsOf(above string, value any) []string {
	var paths []string
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			path := strings.TrimPrefix(above+"."+key, ".")
			if below != nil {
				paths = append(append(paths, path), pathsOf(path, below)...)
			}
		}
	case []any:
		for _, item := range value {
			paths = append(paths, pathsOf(above+"[]", item)...)
		}
	}
	return paths
}
