// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var golden = filepath.Join("..", "..", "..", "contract", "golden", "kestrel-config")

func documents(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(golden, folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden documents in %s: %v", folder, err)
	}
	found := make(map[string][]byte, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(file)] = data
	}
	return found
}

func TestValidDocuments(t *testing.T) {
	for name, data := range documents(t, "valid") {
		if config, problems := Parse(name, data); len(problems) > 0 || config == nil {
			t.Errorf("%s: %+v", name, problems)
		}
	}
}

// The first line of an invalid document says what must be found where: "# expect LINE: PART OF THE MESSAGE".
func TestInvalidDocuments(t *testing.T) {
	expectation := regexp.MustCompile(`^# expect (\d+): (.*)\n`)
	for name, data := range documents(t, "invalid") {
		match := expectation.FindSubmatch(data)
		if match == nil {
			t.Errorf("%s has no expectation", name)
			continue
		}
		line, _ := strconv.Atoi(string(match[1]))
		_, problems := Parse(name, data)
		if len(problems) != 1 || problems[0].Line != line || !strings.Contains(problems[0].Message, string(match[2])) ||
			problems[0].Resolution == "" || problems[0].File != name {
			t.Errorf("%s: %+v, want line %d, %q", name, problems, line, match[2])
		}
	}
}

func TestEverythingIsRead(t *testing.T) {
	config, problems := Parse("everything.yaml", documents(t, "valid")["everything.yaml"])
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	db := config.Exec[0]
	want := Exec{
		Name: "db", Command: "/usr/bin/db", Args: []string{"--port", "5432", "--ratio", "1.10", "--fast", "true"},
		Env: []Variable{
			{Name: "DATA", Value: "/data"}, {Name: "LEVEL", Value: "3"}, {Name: "EMPTY"}, {Name: "DATABASE_URL", FromEnv: true},
		},
		WorkingDir: "/srv", User: "db:db", RunOnce: new(bool), Restart: RestartAlways, Backoff: 250 * time.Millisecond,
		StopSignal: unix.SIGINT, StopTimeout: db.StopTimeout, Health: db.Health,
	}
	if !reflect.DeepEqual(db, want) {
		t.Errorf("db is\n%+v, want\n%+v", db, want)
	}
	port := Check{
		Name: "port", Kind: CheckTCP, Port: 5432, Interval: 5 * time.Second, Timeout: time.Second, Retries: 2,
		StartPeriod: 20 * time.Second, RestartOnUnhealthy: true,
	}
	if !reflect.DeepEqual(db.Health[0], port) {
		t.Errorf("the first check is %+v", db.Health[0])
	}
	if query := db.Health[1]; query.Timeout != 5*time.Second || query.SuccessPattern.String() != "^1$" || query.Args[0] != "select 1" {
		t.Errorf("the second check is %+v", query)
	}
	if migrate := config.Exec[1]; !*migrate.RunOnce || migrate.Restart != RestartOnFailure || migrate.StopTimeout != nil {
		t.Errorf("migrate is %+v", migrate)
	}
	if web := config.Exec[2]; web.StopSignal != unix.SIGTERM || *web.StopTimeout != 0 || web.User != "1000:1000" ||
		web.Health[0].Path != "/health?deep=1" || web.Health[0].Interval != DefaultInterval || web.Health[0].Name != "page" {
		t.Errorf("web is %+v", web)
	}
	hooks := Hooks{
		PreStart: [][]string{{"/scripts/first.sh"}, {"/bin/sh", "-c", "echo second"}}, PostRestore: [][]string{{"/scripts/renew.sh"}}, Timeout: 90 * time.Second,
	}
	if !reflect.DeepEqual(config.Hooks, hooks) || len(config.Health) != 1 || config.Health[0].Name != "tcp" {
		t.Errorf("hooks %+v, health %+v", config.Hooks, config.Health)
	}
}

func TestMergedKeysAreInherited(t *testing.T) {
	config, _ := Parse("anchors.yaml", documents(t, "valid")["anchors.yaml"])
	if second := config.Exec[1]; second.Name != "worker-2" || second.Command != "/bin/worker" || second.Restart != RestartAlways {
		t.Errorf("the second entry is %+v", second)
	}
}

func TestAllProblemsAreToldAtOnceInOrder(t *testing.T) {
	_, problems := Parse("f", []byte(`exec:
  - name: web
    restart: sometimes
    stop_signl: SIGQUIT
  - name: db
    command: /bin/db
    depends_on: [web, nope]
health: {http: {prt: 80}}
`))
	var lines []int
	for _, problem := range problems {
		lines = append(lines, problem.Line)
	}
	if !slices.Equal(lines, []int{2, 3, 4, 5, 8, 8}) {
		t.Errorf("problems are %+v", problems)
	}
}

func TestWhatIsTooLargeOrDeepEnds(t *testing.T) {
	if _, problems := Parse("f", bytes.Repeat([]byte("#"), maxBytes+1)); len(problems) != 1 {
		t.Errorf("problems are %+v", problems)
	}
	var text strings.Builder
	text.WriteString("exec:\n  - &a0 {name: a, command: b, args: [x, x, x, x, x, x, x, x]}\n")
	for level := 1; level < 12; level++ {
		fmt.Fprintf(&text, "  - &a%d {<<: [%s], name: n%d}\n", level, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", level-1), 9), ", "), level)
	}
	Parse("f", []byte(text.String())) // ends, whatever it says
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"SIGTERM": unix.SIGTERM, "TERM": unix.SIGTERM, "quit": unix.SIGQUIT, "9": unix.SIGKILL, "SIGRTMIN+3": 37, "RTMIN": 34, "64": 64,
	} {
		if got, err := ParseSignal(text); err != nil || got != want {
			t.Errorf("%s is %d (%v)", text, got, err)
		}
	}
	for _, text := range []string{"", "SIG", "0", "65", "SIGRTMIN+31", "SIGRTMIN-1", "TERMINATE"} {
		if got, err := ParseSignal(text); err == nil {
			t.Errorf("%q was taken as %d", text, got)
		}
	}
}

func TestCheckMain(t *testing.T) {
	invalid := filepath.Join(golden, "invalid", "unknown_key.yaml")
	var stdout, stderr bytes.Buffer
	if code := CheckMain([]string{invalid}, &stdout, &stderr); code != 1 {
		t.Errorf("exit code %d", code)
	}
	var problem Problem
	if err := json.Unmarshal(stdout.Bytes(), &problem); err != nil || problem.File != invalid || problem.Line != 4 {
		t.Errorf("output is %s (%v)", stdout.String(), err)
	}
	stdout.Reset()
	if code := CheckMain([]string{filepath.Join(golden, "valid", "nginx.yaml")}, &stdout, &stderr); code != 0 || stdout.Len() > 0 {
		t.Errorf("exit code %d, output %s", code, stdout.String())
	}
	if CheckMain(nil, &stdout, &stderr) != 2 || CheckMain([]string{"/no/such/file"}, &stdout, &stderr) != 2 {
		t.Error("a wrong call was taken")
	}
}

func FuzzParse(f *testing.F) {
	for _, folder := range []string{"valid", "invalid"} {
		for _, data := range documents(f, folder) {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		config, problems := Parse("f", data)
		if len(problems) > 0 {
			for _, problem := range problems {
				if problem.Message == "" || problem.Resolution == "" {
					t.Errorf("problem without words: %+v", problem)
				}
			}
			return
		}
		names := make(map[string]bool)
		for _, entry := range config.Exec {
			if entry.Command == "" || !namePattern().MatchString(entry.Name) || names[entry.Name] {
				t.Errorf("entry %+v was taken", entry)
			}
			names[entry.Name] = true
		}
		for _, check := range config.Health {
			if check.Interval <= 0 || check.Timeout <= 0 || check.Retries <= 0 || check.Name == "" {
				t.Errorf("check %+v was taken", check)
			}
		}
	})
}
