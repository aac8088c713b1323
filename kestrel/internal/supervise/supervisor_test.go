// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/logs"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// children is the one reaper of this test program; nothing here may start programs in another way.
var children *reaper.Reaper

func TestMain(m *testing.M) {
	var err error
	if children, err = reaper.Start(); err != nil {
		panic(err)
	}
	code := m.Run()
	children.Close()
	os.Exit(code)
}

const patience = 20 * time.Second

// guest is a supervisor with a folder of its own.
type guest struct {
	*Supervisor
	t      *testing.T
	folder string
	store  *logs.Store
}

// newGuest makes one from a config, in which DIR stands for its folder. An empty config: no file.
func newGuest(t *testing.T, yaml string, change func(*Options)) *guest {
	t.Helper()
	folder := t.TempDir()
	store, err := logs.Open(logs.Options{Directories: []string{filepath.Join(folder, "log")}})
	if err != nil {
		t.Fatal(err)
	}
	options := Options{
		Reaper:          children,
		Logs:            store,
		ConfigPath:      filepath.Join(folder, "config.yaml"),
		EnvironmentPath: filepath.Join(folder, "environment"),
		Image:           contract.ImageConfig{Env: []string{"PATH=/usr/bin:/bin"}},
	}
	if yaml != "" {
		text := strings.ReplaceAll(yaml, "DIR", folder)
		if err := os.WriteFile(options.ConfigPath, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&options)
	}
	g := &guest{New(options), t, folder, store}
	t.Cleanup(func() {
		g.stopWithin(patience)
		if text := g.journal(t); strings.Contains(text, "internal error") && t.Name() != "TestAnIllegalMoveIsLogged" {
			t.Errorf("the supervisor broke its own rules: %s", text)
		}
		store.Close()
	})
	return g
}

func startGuest(t *testing.T, yaml string, change func(*Options)) *guest {
	t.Helper()
	g := newGuest(t, yaml, change)
	g.Start()
	return g
}

func (g *guest) stopWithin(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	g.Stop(ctx)
}

// await waits until the state is as wanted.
func (g *guest) await(what string, wanted func(State) bool) State {
	g.t.Helper()
	changes, cancel := g.Subscribe()
	defer cancel()
	limit := time.After(patience)
	for {
		state := g.State()
		if wanted(state) {
			return state
		}
		select {
		case <-changes:
		case <-limit:
			g.t.Fatalf("gave up waiting until %s; the state is %s", what, show(state))
		}
	}
}

func show(state State) string {
	text := fmt.Sprintf("%s %q, health %s %q", state.Phase, state.Reason, state.Health, state.HealthReason)
	for _, process := range state.Processes {
		text += fmt.Sprintf("; %s %s %q restarts %d", process.Name, process.State, process.Reason, process.Restarts)
	}
	return text
}

func (g *guest) awaitProcess(name string, wanted contract.ProcessStatus) contract.ProcessState {
	g.t.Helper()
	state := g.await(name+" is "+string(wanted), func(state State) bool { return find(state, name).State == wanted })
	return find(state, name)
}

func find(state State, name string) contract.ProcessState {
	for _, process := range state.Processes {
		if process.Name == name {
			return process
		}
	}
	return contract.ProcessState{}
}

func (g *guest) read(name string) string {
	data, _ := os.ReadFile(filepath.Join(g.folder, name))
	return string(data)
}

func (g *guest) awaitFile(name, part string) string {
	g.t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if text := g.read(name); strings.Contains(text, part) {
			return text
		}
	}
	g.t.Fatalf("file %s never held %q: %q", name, part, g.read(name))
	return ""
}

func (g *guest) lines(process string) []string {
	var lines []string
	_, err := g.store.Read(context.Background(), contract.LogQuery{Process: process}, func(entries []contract.LogEntry) error {
		for _, entry := range entries {
			lines = append(lines, entry.Line)
		}
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return lines
}

func TestTheImagesOwnCommandRunsWithoutAConfig(t *testing.T) {
	g := startGuest(t, "", func(options *Options) {
		options.Image.Entrypoint = []string{"sh", "-c"}
		options.Image.Cmd = []string{"echo $A-$B-$C-$PATH; pwd; exit 0"}
		options.Image.Env = append(options.Image.Env, "A=image", "B=image", "C=image")
		options.Image.WorkingDir = "/usr"
		options.Workload.Env = map[string]string{"B": "manifest", "C": "manifest"}
		if err := os.WriteFile(options.EnvironmentPath, []byte("# by cloud-init\nexport C=\"the file\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	state := g.await("it has ended", func(state State) bool { return find(state, "workload").State == contract.ProcessExited })
	if state.Phase != contract.PhaseRunning {
		t.Errorf("state is %s", show(state))
	}
	want := []string{"image-manifest-the file-/run/kestrel/bin:/usr/bin:/bin", "/usr"}
	if lines := g.lines("workload"); strings.Join(lines, "|") != strings.Join(want, "|") {
		t.Errorf("output is %q, want %q", lines, want)
	}
}

func TestNothingToRunIsAReason(t *testing.T) {
	g := startGuest(t, "", nil)
	state := g.State()
	if state.Phase != contract.PhaseFailed || state.Health != contract.HealthUnhealthy || !strings.Contains(state.Reason, "nothing to run") {
		t.Errorf("state is %s", show(state))
	}
}

func TestABrokenConfigIsAReasonAndIsLogged(t *testing.T) {
	g := startGuest(t, "exec:\n  - name: a\n    comand: /bin/true\n", nil)
	state := g.State()
	if state.Phase != contract.PhaseFailed || !strings.Contains(state.Reason, ":3: unknown key \"comand\"") &&
		!strings.Contains(state.Reason, ":2: ") {
		t.Errorf("state is %s", show(state))
	}
	if text := strings.Join(g.lines("kestrel"), "\n"); !strings.Contains(text, `did you mean "command"?`) {
		t.Errorf("log is %q", text)
	}
}

func TestAMissingProgramAndInterpreterAreNamed(t *testing.T) {
	g := newGuest(t, `
exec:
  - {name: missing, command: /no/such/program}
  - {name: lookup, command: no-such-program}
  - {name: script, command: DIR/script}
  - {name: plain, command: DIR/plain}
  - {name: folder, command: /bin/true, working_dir: /no/such/folder}
  - {name: somebody, command: /bin/true, user: nobody-of-that-name}
  - {name: variable, command: /bin/true, env: [{name: MISSING_THING, value_from: env}]}
`, nil)
	for name, content := range map[string]string{"script": "#!/no/such/shell\n", "plain": "echo\n"} {
		if err := os.WriteFile(filepath.Join(g.folder, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(g.folder, "plain"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.Start()
	for name, reason := range map[string]string{
		"missing": "no such file", "lookup": "in PATH (/run/kestrel/bin:/usr/bin:/bin)", "script": "its interpreter /no/such/shell is missing",
		"plain": "not executable", "folder": "working directory /no/such/folder does not exist",
		"somebody": "nobody-of-that-name", "variable": "MISSING_THING",
	} {
		if process := g.awaitProcess(name, contract.ProcessFailed); !strings.Contains(process.Reason, reason) {
			t.Errorf("reason of %s is %q, want %q", name, process.Reason, reason)
		}
	}
	if state := g.State(); state.Health != contract.HealthUnhealthy {
		t.Errorf("state is %s", show(state))
	}
}

func TestDependenciesStartInOrderAndStopInReverse(t *testing.T) {
	g := startGuest(t, `
exec:
  - name: web
    command: sh
    args: [-c, "trap 'echo web down >> DIR/order; exit 0' TERM; echo web >> DIR/order; while :; do sleep 0.02; done"]
    depends_on: [db, migrate]
  - name: migrate
    command: sh
    args: [-c, "sleep 0.1; echo migrate >> DIR/order"]
    run_once: true
    depends_on: [db]
  - name: db
    command: sh
    args: [-c, "trap 'sleep 0.1; echo db down >> DIR/order; exit 0' TERM; echo db >> DIR/order; while :; do sleep 0.02; done"]
    health: {exec: {command: test, args: [-f, DIR/ready]}}
`, nil)
	g.awaitFile("order", "db")
	if process := g.awaitProcess("web", contract.ProcessWaiting); process.Reason != "waits for db" {
		t.Errorf("web is %+v", process)
	}
	if state := g.State(); state.Health != contract.HealthStarting || state.Phase != contract.PhaseStarting {
		t.Errorf("state is %s", show(state))
	}
	if err := os.WriteFile(filepath.Join(g.folder, "ready"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.awaitFile("order", "web\n")
	state := g.await("all is up", func(state State) bool { return state.Phase == contract.PhaseRunning })
	if state.Health != contract.HealthHealthy || len(state.Checks) != 1 || state.Checks[0].Name != "db/exec" {
		t.Errorf("state is %s with %+v", show(state), state.Checks)
	}
	g.stopWithin(patience)
	if order := strings.Join(strings.Split(g.read("order"), "\n"), ","); order != "db,migrate,web,web down,db down," {
		t.Errorf("order was %s", order)
	}
}

// The guide's own config: fetch-secrets has no run_once, and app finds the secret in its place.
func TestTheGuidesSecretsExample(t *testing.T) {
	open := make(chan struct{})
	g := startGuest(t, `
exec:
  - name: fetch-secrets
    command: DIR/fetch-secrets.sh
    vsock_cid: 2  # Host CID
    vsock_port: 9000
  - name: app
    command: sh
    args: [-c, "cat DIR/api-key; exec sleep 1000"]
    depends_on: [fetch-secrets]
`, func(options *Options) {
		script := "#!/bin/sh\necho secret-$VSOCK_CID-$VSOCK_PORT > $(dirname $0)/api-key\n"
		if err := os.WriteFile(filepath.Join(filepath.Dir(options.ConfigPath), "fetch-secrets.sh"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		options.WaitForVsock = func(ctx context.Context, cid, port uint32) error {
			if cid != 2 || port != 9000 {
				return fmt.Errorf("asked for %d:%d", cid, port)
			}
			select {
			case <-open:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	if process := g.awaitProcess("fetch-secrets", contract.ProcessStarting); process.PID != nil {
		t.Errorf("it was started before the channel was open: %+v", process)
	}
	close(open)
	g.awaitProcess("app", contract.ProcessRunning)
	if process := g.awaitProcess("fetch-secrets", contract.ProcessExited); process.ExitCode == nil || *process.ExitCode != 0 {
		t.Errorf("fetch-secrets is %+v", process)
	}
	g.await("the phase is running", func(state State) bool { return state.Phase == contract.PhaseRunning })
	if lines := g.lines("app"); len(lines) != 1 || lines[0] != "secret-2-9000" {
		t.Errorf("app saw %q", lines)
	}
}

func TestAFailedOneShotStopsItsDependantsUntilItSucceeds(t *testing.T) {
	g := startGuest(t, `
exec:
  - {name: once, run_once: true, command: sh, args: [-c, "test -f DIR/fixed || exit 3"]}
  - {name: app, command: sleep, args: ["1000"], depends_on: [once]}
`, nil)
	process := g.awaitProcess("app", contract.ProcessFailed)
	if process.Reason != "depends on once, which failed: exited with code 3" || process.PID != nil {
		t.Errorf("app is %+v", process)
	}
	if state := g.State(); state.Health != contract.HealthUnhealthy {
		t.Errorf("state is %s", show(state))
	}
	if err := os.WriteFile(filepath.Join(g.folder, "fixed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.StartProcess("once"); err != nil {
		t.Fatal(err)
	}
	g.awaitProcess("app", contract.ProcessRunning)
}

func TestWhoeverWaitsSaysWhy(t *testing.T) {
	g := startGuest(t, `
exec:
  - {name: sick, command: sleep, args: ["1000"], health: {exec: {command: "false", interval: 100ms, retries: 1}}}
  - {name: crashing, command: sh, args: [-c, exit 3], backoff: 1h}
  - {name: one, command: "true", depends_on: [sick]}
  - {name: two, command: "true", depends_on: [crashing]}
`, nil)
	g.await("both say why they wait", func(state State) bool {
		return find(state, "one").Reason == "waits for sick, which is unhealthy: the check exited with code 1" &&
			find(state, "two").Reason == "waits for crashing, which exited with code 3; starts again in 1h0m0s"
	})
}

func TestRestartPoliciesAndBackoff(t *testing.T) {
	g := startGuest(t, `
exec:
  - {name: crashing, backoff: 10ms, command: sh, args: [-c, "echo x >> DIR/crashing; exit 7"]}
  - {name: ending, command: "true"}
  - {name: always, restart: always, backoff: 10ms, command: "true"}
  - {name: never, restart: never, command: "false"}
`, nil)
	state := g.await("both have restarted thrice", func(state State) bool {
		return find(state, "crashing").Restarts >= 3 && find(state, "always").Restarts >= 3
	})
	if ending, never := g.awaitProcess("ending", contract.ProcessExited), g.awaitProcess("never", contract.ProcessFailed); ending.Restarts+never.Restarts != 0 {
		t.Errorf("state is %s", show(state))
	}
	state = g.await("the VM is unhealthy", func(state State) bool { return state.Health == contract.HealthUnhealthy })
	if !strings.Contains(state.HealthReason, "exited with code") {
		t.Errorf("state is %s", show(state))
	}
}

func TestBackoffDoublesUpToItsLongest(t *testing.T) {
	var pauses []string
	for failures := range 8 {
		pauses = append(pauses, nextBackoff(500*time.Millisecond, failures).String())
	}
	if got := strings.Join(pauses, " "); got != "500ms 1s 2s 4s 8s 16s 30s 30s" {
		t.Errorf("pauses are %s", got)
	}
	if pause := nextBackoff(time.Minute, 5); pause != time.Minute {
		t.Errorf("a configured minute became %s", pause)
	}
}

func TestAKilledProcessIsRestartedWithItsSignalAsReason(t *testing.T) {
	g := startGuest(t, "exec:\n  - {name: app, backoff: 10ms, command: sleep, args: ['1000']}\n", nil)
	first := *g.awaitProcess("app", contract.ProcessRunning).PID
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.await("it runs again", func(state State) bool {
		process := find(state, "app")
		return process.State == contract.ProcessRunning && *process.PID != first && process.Restarts == 1
	})
	if text := strings.Join(g.lines("kestrel"), "\n"); !strings.Contains(text, "process app killed by SIGKILL") {
		t.Errorf("log is %q", text)
	}
}

func TestTheWholeGroupIsStoppedAndKilledAtItsTime(t *testing.T) {
	g := startGuest(t, `
exec:
  - name: stubborn
    stop_timeout: 100ms
    command: sh
    args: [-c, "trap '' TERM; (trap '' TERM; echo $$ > DIR/parent; sh -c 'echo $$ > DIR/child; while :; do sleep 0.02; done') & while :; do sleep 0.02; done"]
  - name: obeying
    command: sh
    args: [-c, "sleep 1000 & echo $! > DIR/helper; trap 'exit 0' TERM; wait"]
`, nil)
	pids := []int{}
	for _, name := range []string{"parent", "child", "helper"} {
		pid, err := strconv.Atoi(strings.TrimSpace(g.awaitFile(name, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	g.stopWithin(patience)
	for _, pid := range pids {
		awaitGone(t, pid)
	}
	if text := strings.Join(g.lines("kestrel"), "\n"); !strings.Contains(text, "stubborn did not end within 100ms: killing it") {
		t.Errorf("log is %q", text)
	}
	if state := g.State(); state.Phase != contract.PhaseStopped || find(state, "obeying").State != contract.ProcessStopped {
		t.Errorf("state is %s", show(state))
	}
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}

func TestTheDeadlineOfStopKills(t *testing.T) {
	g := startGuest(t, "exec:\n  - {name: app, stop_timeout: 1h, command: sh, args: [-c, \"trap '' TERM; echo up > DIR/up; while :; do sleep 0.02; done\"]}\n", nil)
	g.awaitFile("up", "up")
	g.stopWithin(50 * time.Millisecond)
	if process := find(g.State(), "app"); process.State != contract.ProcessStopped || process.Signal == nil || *process.Signal != "SIGKILL" {
		t.Errorf("app is %+v", process)
	}
}

func TestStopSignalsOfEntryAndImage(t *testing.T) {
	script := "trap 'echo quit > DIR/SELF; exit 0' QUIT; trap 'echo usr1 > DIR/SELF; exit 0' USR1; echo up > DIR/SELF; while :; do sleep 0.02; done"
	g := startGuest(t, fmt.Sprintf(`
exec:
  - {name: image, command: sh, args: [-c, %q]}
  - {name: entry, stop_signal: USR1, command: sh, args: [-c, %q]}
`, strings.ReplaceAll(script, "SELF", "image"), strings.ReplaceAll(script, "SELF", "entry")), func(options *Options) {
		options.Image.StopSignal = "SIGQUIT"
	})
	g.awaitFile("image", "up")
	g.awaitFile("entry", "up")
	g.stopWithin(patience)
	if g.read("image") != "quit\n" || g.read("entry") != "usr1\n" {
		t.Errorf("image got %q, entry got %q", g.read("image"), g.read("entry"))
	}
}

func TestHooks(t *testing.T) {
	g := startGuest(t, `
exec:
  - {name: app, command: sh, args: [-c, "echo app >> DIR/order; exec sleep 1000"]}
hooks:
  pre_start: [[sh, -c, "echo one >> DIR/order; echo said"], [sh, -c, "echo two >> DIR/order"]]
  post_stop: [[sh, -c, "echo after >> DIR/order"]]
`, nil)
	g.awaitFile("order", "app")
	g.stopWithin(patience)
	if order := strings.ReplaceAll(g.read("order"), "\n", ","); order != "one,two,app,after," {
		t.Errorf("order was %s", order)
	}
	if lines := g.lines("pre_start"); len(lines) != 1 || lines[0] != "said" {
		t.Errorf("the hook's output is %q", lines)
	}
	if code, err := g.RunHook(context.Background(), "post_stop"); code != 0 || err != nil {
		t.Errorf("RunHook: %d, %v", code, err)
	}
	var failure *Error
	if _, err := g.RunHook(context.Background(), "mid_life"); !errors.As(err, &failure) || failure.Code != contract.ErrorNotFound {
		t.Errorf("an unknown hook: %v", err)
	}
}

func TestAFailingHookStopsTheStart(t *testing.T) {
	for name, testCase := range map[string]struct{ hook, reason string }{
		"exit":    {`[sh, -c, "exit 4"]`, "exited with code 4"},
		"timeout": {`[sleep, "1000"]`, "did not end within 50ms and was killed"},
		"missing": {`/no/such/hook`, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGuest(t, "exec:\n  - {name: app, command: sleep, args: ['1000']}\nhooks: {timeout: 50ms, pre_start: ["+testCase.hook+"]}\n", nil)
			state := g.await("it failed", func(state State) bool { return state.Phase == contract.PhaseFailed })
			if !strings.Contains(state.Reason, testCase.reason) || find(state, "app").PID != nil {
				t.Errorf("state is %s", show(state))
			}
		})
	}
}

func TestBatchResult(t *testing.T) {
	for name, testCase := range map[string]struct {
		yaml   string
		result int
	}{
		"success":        {"exec:\n  - {name: job, command: 'true'}\n", 0},
		"failure":        {"exec:\n  - {name: job, command: sh, args: [-c, exit 5]}\n", 5},
		"signal":         {"exec:\n  - {name: job, command: sh, args: [-c, 'kill -9 $$']}\n", 137},
		"cannot start":   {"exec:\n  - {name: job, command: /no/such/job}\n", 127},
		"one of several": {"exec:\n  - {name: a, command: 'true'}\n  - {name: b, command: 'false', depends_on: [a]}\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			results := make(chan int, 2)
			g := startGuest(t, testCase.yaml, func(options *Options) {
				options.Workload.Type = "batch"
				options.OnResult = func(code int) { results <- code }
			})
			select {
			case code := <-results:
				if code != testCase.result || *g.State().Result != code {
					t.Errorf("result is %d, want %d", code, testCase.result)
				}
			case <-time.After(patience):
				t.Fatalf("no result: %s", show(g.State()))
			}
		})
	}
}

func TestResultOfABatchWorkloadThatIsStopped(t *testing.T) {
	for name, testCase := range map[string]struct {
		script string
		result int
	}{
		"well":      {"trap 'exit 0' TERM; echo up > DIR/up; sleep 1000 & wait", 0},
		"its code":  {"trap 'exit 7' TERM; echo up > DIR/up; sleep 1000 & wait", 7},
		"by signal": {"echo up > DIR/up; exec sleep 1000", 128 + int(unix.SIGTERM)},
		"killed":    {"trap '' TERM; echo up > DIR/up; while :; do sleep 0.1; done", 128 + int(unix.SIGKILL)},
	} {
		t.Run(name, func(t *testing.T) {
			config := "exec:\n  - {name: job, stop_timeout: 300ms, command: sh, args: [-c, \"" + testCase.script + "\"]}\n"
			g := startGuest(t, config, func(options *Options) { options.Workload.RunOnce = true })
			g.awaitFile("up", "up")
			g.stopWithin(patience)
			if result := g.State().Result; result == nil || *result != testCase.result {
				t.Errorf("state is %s, want the result %d", show(g.State()), testCase.result)
			}
		})
	}
}

func TestAWorkloadThatIsNoBatchHasNoResult(t *testing.T) {
	g := startGuest(t, "exec:\n  - {name: app, command: sleep, args: ['1000']}\n", nil)
	g.await("it runs", func(state State) bool { return find(state, "app").PID != nil })
	g.stopWithin(patience)
	if result := g.State().Result; result != nil {
		t.Errorf("its result is %d", *result)
	}
}

func TestABatchWorkloadThatNeverRanHasNoResult(t *testing.T) {
	g := startGuest(t, "exec:\n  - {name: a, command: sleep, args: ['1000'], health: {exec: {command: 'false'}}}\n"+
		"  - {name: b, command: 'true', depends_on: [a]}\n", func(options *Options) { options.Workload.Type = "batch" })
	g.await("the first runs", func(state State) bool { return find(state, "a").PID != nil })
	g.stopWithin(patience)
	if result := g.State().Result; result != nil {
		t.Errorf("its result is %d", *result)
	}
}

func TestADaemonizingProcessIsFollowed(t *testing.T) {
	g := startGuest(t, `
exec:
  - {name: daemon, backoff: 10ms, command: sh, args: [-c, "setsid sh -c 'echo $$ > DIR/pid; exec sleep 1000' & sleep 0.1; exit 0"]}
`, nil)
	pid := strings.TrimSpace(g.awaitFile("pid", "\n"))
	state := g.await("it is followed", func(state State) bool { return strings.Contains(find(state, "daemon").Reason, "background") })
	process := find(state, "daemon")
	if process.State != contract.ProcessRunning || strconv.Itoa(*process.PID) != pid {
		t.Errorf("daemon is %+v, its pid %s", process, pid)
	}
	if err := unix.Kill(*process.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.await("its death is noticed", func(state State) bool { return find(state, "daemon").Restarts == 1 })
}

func TestChecksOfTheWorkload(t *testing.T) {
	g := startGuest(t, `
exec: [{name: app, command: sleep, args: ["1000"]}]
health:
  - {name: file, exec: {command: cat, args: [DIR/state], success_pattern: "^good", interval: 100ms, retries: 2}}
`, nil)
	set := func(text string) {
		if err := os.WriteFile(filepath.Join(g.folder, "state"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("good morning\n")
	g.await("it is healthy", func(state State) bool { return state.Health == contract.HealthHealthy })
	set("bad\n")
	state := g.await("it is unhealthy", func(state State) bool { return state.Health == contract.HealthUnhealthy })
	if !strings.Contains(state.HealthReason, `check file: the check's output does not match "^good": bad`) {
		t.Errorf("state is %s", show(state))
	}
	set("good again\n")
	g.await("it is healthy again", func(state State) bool { return state.Health == contract.HealthHealthy })
}

func TestAnUnhealthyEntryIsRestartedWhereItIsTold(t *testing.T) {
	g := startGuest(t, `
exec:
  - name: app
    command: sh
    args: [-c, "touch DIR/well; exec sleep 1000"]
    health: {exec: {command: test, args: [-f, DIR/well], interval: 100ms, retries: 1, on_failure: restart}}
`, nil)
	g.await("it is healthy", func(state State) bool { return state.Health == contract.HealthHealthy })
	if err := os.Remove(filepath.Join(g.folder, "well")); err != nil {
		t.Fatal(err)
	}
	g.await("it was restarted and is well", func(state State) bool {
		return find(state, "app").Restarts == 1 && state.Health == contract.HealthHealthy
	})
}

func TestAnUnhealthyWorkloadIsRestartedWhereItIsTold(t *testing.T) {
	g := startGuest(t, `
exec:
  - {name: once, run_once: true, command: "true"}
  - {name: app, command: sh, args: [-c, "touch DIR/well; exec sleep 1000"], depends_on: [once]}
health: {exec: {command: test, args: [-f, DIR/well], interval: 100ms, retries: 1, on_failure: restart}}
`, nil)
	g.await("it is healthy", func(state State) bool { return state.Health == contract.HealthHealthy })
	if err := os.Remove(filepath.Join(g.folder, "well")); err != nil {
		t.Fatal(err)
	}
	state := g.await("it was restarted and is well", func(state State) bool {
		return find(state, "app").Restarts == 1 && state.Health == contract.HealthHealthy
	})
	if find(state, "once").Restarts != 0 {
		t.Errorf("the one-shot ran again: %s", show(state))
	}
}

func TestSettingsOfTheManifestMayChange(t *testing.T) {
	port := 1 // nothing listens there
	g := startGuest(t, "", func(options *Options) {
		options.Workload.Port = &port
		options.Workload.Env = map[string]string{"A": "old"}
		options.Image.Cmd = []string{"sh", "-c", "echo $A; exec sleep 1000"}
	})
	g.await("it runs", func(state State) bool { return state.Phase == contract.PhaseRunning })
	if checks := g.State().Checks; len(checks) != 1 || checks[0].Kind != "tcp" {
		t.Errorf("checks are %+v", checks)
	}
	err := g.Apply(contract.SettingsApply{
		HealthCheck: &contract.HealthCheck{Endpoint: "health", IntervalMs: 100, Retries: 1}, WorkloadEnv: map[string]string{"A": "new"},
	})
	if err != nil {
		t.Fatal(err)
	}
	state := g.await("the new check has failed", func(state State) bool { return state.Health == contract.HealthUnhealthy })
	if state.Checks[0].Kind != "http" || !strings.Contains(state.HealthReason, "nothing listens on port 1") {
		t.Errorf("state is %s", show(state))
	}
	if err := g.RestartProcess("workload"); err != nil {
		t.Fatal(err)
	}
	g.await("it runs again", func(state State) bool {
		return find(state, "workload").Restarts == 1 && find(state, "workload").PID != nil
	})
	for limit := time.Now().Add(patience); len(g.lines("workload")) < 2 && time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
	}
	if lines := strings.Join(g.lines("workload"), " "); lines != "old new" {
		t.Errorf("the process saw %q", lines)
	}
}

func TestWhichCheckCounts(t *testing.T) {
	port := 8080
	manifest := &contract.HealthCheck{Endpoint: "/health"}
	image := contract.ImageConfig{Entrypoint: []string{"sleep", "1000"}, Healthcheck: &contract.ImageHealthcheck{Test: []string{"CMD-SHELL", "exit 0"}}}
	none := contract.ImageConfig{Entrypoint: []string{"sleep", "1000"}, Healthcheck: &contract.ImageHealthcheck{Test: []string{"NONE"}}}
	workload := contract.Workload{Type: "http", Port: &port}
	entry := "exec: [{name: app, command: sleep, args: ['1000'], health: {tcp: {port: 1}}}]\n"
	for name, testCase := range map[string]struct {
		yaml     string
		manifest *contract.HealthCheck
		image    contract.ImageConfig
		workload contract.Workload
		want     string
	}{
		"config first":      {"health: {tcp: {port: 9}}\n", manifest, image, workload, "tcp:9"},
		"then an entry":     {entry, manifest, image, workload, "app/tcp"},
		"then the manifest": {"", manifest, image, workload, "http:8080/health"},
		"then the image":    {"", nil, image, workload, "healthcheck"},
		"then the port":     {"", nil, none, workload, "tcp:8080"},
		"else none":         {"", nil, none, contract.Workload{Type: "daemon"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, testCase.yaml, func(options *Options) {
				options.HealthCheck, options.Image, options.Workload = testCase.manifest, testCase.image, testCase.workload
			})
			if err := g.load(); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, check := range chooseChecks(g.settings, testCase.manifest, testCase.image, testCase.workload) {
				got += check.Name
				if check.Port > 0 {
					got += fmt.Sprintf(":%d", check.Port)
				}
				got += strings.TrimSuffix(check.Path, "/")
			}
			if got == "" && len(g.State().Checks) > 0 {
				got = g.State().Checks[0].Name
			}
			if got != testCase.want {
				t.Errorf("check is %q, want %q", got, testCase.want)
			}
		})
	}
}

func TestProcessesMayOpenManyFiles(t *testing.T) {
	var present unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &present); err != nil {
		t.Fatal(err)
	}
	if err := raiseLimits(); err != nil {
		t.Fatal(err)
	}
	g := startGuest(t, "exec:\n  - {name: app, command: sh, args: [-c, ulimit -n]}\n", nil)
	g.awaitProcess("app", contract.ProcessExited)
	if lines := g.lines("app"); len(lines) != 1 || lines[0] != fmt.Sprint(min(openFiles, present.Max)) && lines[0] != fmt.Sprint(openFiles) {
		t.Errorf("the limit is %q", lines)
	}
}

func TestStopBeforeStart(t *testing.T) {
	g := newGuest(t, "exec:\n  - {name: app, command: sleep, args: ['1000']}\n", nil)
	g.stopWithin(patience)
	g.Start()
	if state := g.State(); state.Phase != contract.PhaseStopped || len(state.Processes) != 0 {
		t.Errorf("state is %s", show(state))
	}
}

func TestStateMayBeAskedAtAnyTime(t *testing.T) {
	g := newGuest(t, "exec:\n  - {name: app, command: sleep, args: ['1000']}\n", nil)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					g.State()
					g.Environment()
					_ = g.StopDeadline()
					_, _ = g.RunHook(context.Background(), "pre_start")
				}
			}
		})
	}
	g.Start()
	g.awaitProcess("app", contract.ProcessRunning)
	g.stopWithin(patience)
	close(stop)
	all.Wait()
}

func TestStartStopRestartByName(t *testing.T) {
	g := startGuest(t, "exec:\n  - {name: app, command: sleep, args: ['1000']}\n", nil)
	pid := *g.awaitProcess("app", contract.ProcessRunning).PID
	codeOf := func(err error) int {
		var failure *Error
		if errors.As(err, &failure) {
			return failure.Code
		}
		return 0
	}
	if code := codeOf(g.StartProcess("app")); code != contract.ErrorWrongState {
		t.Errorf("starting a running process: code %d", code)
	}
	if code := codeOf(g.StopProcess("nobody")); code != contract.ErrorNotFound {
		t.Errorf("stopping an unknown process: code %d", code)
	}
	if err := g.StopProcess("app"); err != nil {
		t.Fatal(err)
	}
	if process := find(g.State(), "app"); process.State != contract.ProcessStopped {
		t.Errorf("app is %+v", process)
	}
	if code := codeOf(g.StopProcess("app")); code != contract.ErrorWrongState {
		t.Errorf("stopping a stopped process: code %d", code)
	}
	if err := g.RestartProcess("app"); err != nil {
		t.Fatal(err)
	}
	if process := g.awaitProcess("app", contract.ProcessRunning); *process.PID == pid {
		t.Errorf("app has the same pid")
	}
}

func TestUserAndGroups(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	g := newGuest(t, `
exec:
  - {name: named, user: web, command: sh, args: [-c, "id -u; id -g; id -G; echo $HOME; echo open > /dev/stdout"]}
  - {name: numbers, user: "4321:8765", command: sh, args: [-c, "id -u; id -g; id -G"]}
`, func(options *Options) { options.Root = filepath.Dir(options.ConfigPath) })
	if err := os.MkdirAll(filepath.Join(g.folder, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\nweb:x:1234:5678::/srv/web:/bin/false\n",
		"group":  "root:x:0:\nweb:x:5678:\nextra:x:77:other,web\n",
	} {
		if err := os.WriteFile(filepath.Join(g.folder, "etc", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.Start()
	g.awaitProcess("named", contract.ProcessExited)
	g.awaitProcess("numbers", contract.ProcessExited)
	if lines := strings.Join(g.lines("named"), " "); lines != "1234 5678 5678 77 /srv/web open" {
		t.Errorf("named ran as %q", lines)
	}
	if lines := strings.Join(g.lines("numbers"), " "); lines != "4321 8765 8765" {
		t.Errorf("numbers ran as %q", lines)
	}
}

func TestTwoHundredProcessesAndNothingIsLeaked(t *testing.T) {
	before := countDescriptors(t)
	var yaml strings.Builder
	yaml.WriteString("exec:\n")
	for index := range 200 {
		fmt.Fprintf(&yaml, "  - {name: p%d, command: sh, args: [-c, 'echo up; exec sleep 1000']}\n", index)
	}
	g := startGuest(t, yaml.String(), nil)
	g.await("all run", func(state State) bool { return state.Phase == contract.PhaseRunning })
	for index := range 200 {
		if lines := g.lines(fmt.Sprintf("p%d", index)); len(lines) != 1 {
			t.Errorf("p%d said %q", index, lines)
		}
	}
	g.stopWithin(patience)
	g.store.Close()
	for limit := time.Now().Add(patience); countDescriptors(t) > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d descriptors before, %d after", before, countDescriptors(t))
		}
	}
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > 20; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d goroutines are left", runtime.NumGoroutine())
		}
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
