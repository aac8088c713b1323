// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/volantvm/volant/kestrel/internal/config"
	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

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

// serve answers every connection with a text after it has read a request; an empty text: it never answers.
func serve(t *testing.T, address string, answer func() string) int {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = connection.Close() }()
				request := make([]byte, 4096)
				if _, err := connection.Read(request); err != nil {
					return
				}
				text := answer()
				if text == "" {
					_, _ = io.Copy(io.Discard, connection)
					return
				}
				_, _ = io.WriteString(connection, text)
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// check is one that turns over quickly.
func check(kind config.CheckKind) config.Check {
	return config.Check{Name: "c", Kind: kind, Path: "/", Interval: 100 * time.Millisecond, Timeout: 5 * time.Second, Retries: 2}
}

func begin(t *testing.T, check config.Check) *Monitor {
	t.Helper()
	monitor := New(Options{
		Check: check, Reaper: children,
		Prepare: func(command string, arguments []string) (reaper.Command, error) {
			return reaper.Command{Path: command, Arguments: append([]string{command}, arguments...), Env: os.Environ()}, nil
		},
	})
	monitor.Begin()
	t.Cleanup(func() { monitor.End(contract.HealthUnknown, "") })
	return monitor
}

func await(t *testing.T, monitor *Monitor, wanted contract.HealthState) string {
	t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(2 * time.Millisecond) {
		if state, reason := monitor.State(); state == wanted {
			return reason
		}
	}
	t.Fatalf("the check never became %s: %+v", wanted, monitor.Check())
	return ""
}

func TestHTTPAnswers(t *testing.T) {
	for name, testCase := range map[string]struct {
		answer string
		state  contract.HealthState
		reason string
	}{
		"200":           {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", contract.HealthHealthy, ""},
		"204, HTTP/1.0": {"HTTP/1.0 204\r\n\r\n", contract.HealthHealthy, ""},
		"302":           {"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", contract.HealthHealthy, ""},
		"interim":       {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", contract.HealthHealthy, ""},
		"404":           {"HTTP/1.1 404 Not Found\r\n\r\n", contract.HealthUnhealthy, "GET / on port PORT answered 404"},
		"503":           {"HTTP/1.1 503 Busy\r\n\r\n", contract.HealthUnhealthy, "answered 503"},
		"other":         {"SSH-2.0-OpenSSH\r\n", contract.HealthUnhealthy, "the answer is not HTTP"},
		"garbage":       {"HTTP/1.1 abc\r\n\r\n", contract.HealthUnhealthy, "the answer is not HTTP"},
		"cut off":       {"HTTP/1.", contract.HealthUnhealthy, "closed without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := check(config.CheckHTTP)
			spec.Port = serve(t, "127.0.0.1:0", func() string { return testCase.answer })
			reason := await(t, begin(t, spec), testCase.state)
			if want := strings.ReplaceAll(testCase.reason, "PORT", fmt.Sprint(spec.Port)); !strings.Contains(reason, want) {
				t.Errorf("reason is %q, want %q", reason, want)
			}
		})
	}
}

func TestASilentServerTimesOut(t *testing.T) {
	spec := check(config.CheckHTTP)
	spec.Timeout = 20 * time.Millisecond
	spec.Port = serve(t, "127.0.0.1:0", func() string { return "" })
	if reason := await(t, begin(t, spec), contract.HealthUnhealthy); !strings.Contains(reason, "no answer within the timeout") {
		t.Errorf("reason is %q", reason)
	}
}

func TestTCPOnEitherLoopback(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		spec := check(config.CheckTCP)
		spec.Port = serve(t, address, func() string { return "" })
		await(t, begin(t, spec), contract.HealthHealthy)
	}
	spec := check(config.CheckTCP)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spec.Port = listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	if reason := await(t, begin(t, spec), contract.HealthUnhealthy); !strings.Contains(reason, "nothing listens on port") {
		t.Errorf("reason is %q", reason)
	}
}

func TestExec(t *testing.T) {
	for name, testCase := range map[string]struct {
		script  string
		pattern string
		state   contract.HealthState
		reason  string
	}{
		"success":    {"exit 0", "", contract.HealthHealthy, ""},
		"failure":    {"echo first; echo second >&2; exit 3", "", contract.HealthUnhealthy, "the check exited with code 3: second"},
		"match":      {"echo status: green", "green|yellow", contract.HealthHealthy, ""},
		"no match":   {"echo status: red", "green", contract.HealthUnhealthy, `does not match "green": status: red`},
		"timeout":    {"sleep 1000", "", contract.HealthUnhealthy, "did not end within its timeout"},
		"background": {"sleep 1000 & echo fine", "fine", contract.HealthHealthy, ""},
		"flood":      {"head -c 1000000 /dev/zero", "", contract.HealthHealthy, ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := check(config.CheckExec)
			spec.Command, spec.Args = "/bin/sh", []string{"-c", testCase.script}
			if testCase.pattern != "" {
				spec.SuccessPattern = regexp.MustCompile(testCase.pattern)
			}
			if name == "timeout" {
				spec.Timeout = 20 * time.Millisecond
			}
			if reason := await(t, begin(t, spec), testCase.state); !strings.Contains(reason, testCase.reason) {
				t.Errorf("reason is %q, want %q", reason, testCase.reason)
			}
		})
	}
}

func TestACheckLeavesNothingBehind(t *testing.T) {
	noted := filepath.Join(t.TempDir(), "pid")
	spec := check(config.CheckExec)
	spec.Command, spec.Args = "/bin/sh", []string{"-c", "sleep 1000 & echo $! >" + noted + ".new; mv " + noted + ".new " + noted}
	await(t, begin(t, spec), contract.HealthHealthy)
	text, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		// Whoever inherited it may need a moment to reap it.
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(status), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d of the check is still there", pid)
		}
	}
}

func TestTheStatesOfALife(t *testing.T) {
	var code, unhealthy atomic.Int32
	code.Store(500)
	spec := check(config.CheckHTTP)
	spec.Port = serve(t, "127.0.0.1:0", func() string { return fmt.Sprintf("HTTP/1.1 %d X\r\n\r\n", code.Load()) })
	spec.StartPeriod = time.Hour
	monitor := New(Options{Check: spec, Unhealthy: func() { unhealthy.Add(1) }})
	if state, _ := monitor.State(); state != contract.HealthUnknown {
		t.Errorf("before the begin it is %s", state)
	}
	monitor.Begin()
	defer monitor.End(contract.HealthUnknown, "")
	for limit := time.Now().Add(patience); monitor.Check().Reason == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it never asked")
		}
	}
	if shown := monitor.Check(); shown.State != contract.HealthStarting || shown.Failures != 0 {
		t.Errorf("in the start period it is %+v", shown)
	}
	code.Store(200)
	await(t, monitor, contract.HealthHealthy)
	code.Store(503)
	await(t, monitor, contract.HealthUnhealthy)
	if shown := monitor.Check(); shown.Failures < spec.Retries || shown.ChangedAt == "" {
		t.Errorf("unhealthy it is %+v", shown)
	}
	code.Store(200)
	await(t, monitor, contract.HealthHealthy)
	if shown := monitor.Check(); shown.Failures != 0 || shown.Reason != "" {
		t.Errorf("healthy again it is %+v", shown)
	}
	monitor.End(contract.HealthUnhealthy, "its process has ended")
	if state, reason := monitor.State(); state != contract.HealthUnhealthy || reason != "its process has ended" {
		t.Errorf("after the end it is %s: %s", state, reason)
	}
	if unhealthy.Load() != 1 {
		t.Errorf("unhealthy was told %d times", unhealthy.Load())
	}
}
