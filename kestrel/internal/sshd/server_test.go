// SPDX-License-Identifier: Apache-2.0

package sshd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/passwd"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// children also takes SIGHUP: programs inherit its being ignored, as by nohup, and would not end with their session.
var children = sync.OnceValue(func() *reaper.Reaper {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	started, err := reaper.Start()
	if err != nil {
		panic(err)
	}
	return started
})

func makeKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func keyLine(key ssh.PublicKey) string { return string(ssh.MarshalAuthorizedKey(key)) }

// serve starts a server on a UNIX socket, open to the returned key, with changes of its settings.
func serve(t *testing.T, change func(*Config)) (path string, key ssh.Signer) {
	t.Helper()
	key = makeKey(t)
	keys := NewKeys()
	if err := keys.Add(keyLine(key.PublicKey())); err != nil {
		t.Fatal(err)
	}
	config := Config{
		Reaper:        children(),
		HostKey:       NewHostKey(makeKey(t)),
		Accept:        func(_ passwd.Account, key ssh.PublicKey) bool { return keys.Contains(key) },
		RuntimeFolder: t.TempDir(),
		Logf:          t.Logf,
		Environment:   func() []string { return []string{"PATH=/usr/bin:/bin", "FROM_VM=yes", "HOME=/elsewhere"} },
	}
	config.Logf = nil
	if change != nil {
		change(&config)
	}
	path = filepath.Join(t.TempDir(), "ssh.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := New(config)
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return path, key
}

func dialAs(path, user string, key ssh.Signer) (*ssh.Client, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	client, channels, requests, err := ssh.NewClientConn(conn, path, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a test's own server
	})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(client, channels, requests), nil
}

func me() string { return strconv.Itoa(os.Getuid()) }

func dial(t *testing.T, path string, key ssh.Signer) *ssh.Client {
	t.Helper()
	client, err := dialAs(path, me(), key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newSession(t *testing.T, client *ssh.Client) *ssh.Session {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

type result struct {
	stdout, stderr string
	code           int
	signal         string
}

func run(t *testing.T, session *ssh.Session, command string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	err := session.Run(command)
	outcome := result{stdout: stdout.String(), stderr: stderr.String()}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		outcome.code, outcome.signal = exit.ExitStatus(), exit.Signal()
	} else if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return outcome
}

func TestExec(t *testing.T) {
	path, key := serve(t, nil)
	client := dial(t, path, key)
	if got := run(t, newSession(t, client), "echo out; echo err >&2; exit 7"); got != (result{"out\n", "err\n", 7, ""}) {
		t.Errorf("%+v", got)
	}
	if got := run(t, newSession(t, client), "kill -USR1 $$"); got.signal != "USR1" {
		t.Errorf("%+v", got)
	}
	session := newSession(t, client)
	session.Stdin = strings.NewReader("through")
	if got := run(t, session, "cat"); got.stdout != "through" {
		t.Errorf("%+v", got)
	}
	session = newSession(t, client)
	for name, value := range map[string]string{"ASKED": "for", "HOME": t.TempDir()} { // a home without a ~/.bashrc
		if err := session.Setenv(name, value); err != nil {
			t.Error(err)
		}
	}
	got := run(t, session, `echo "$PATH $FROM_VM $ASKED"; echo $SSH_CONNECTION, $SSH_CLIENT; pwd`)
	want := "/run/kestrel/bin:/usr/bin:/bin yes for\n127.0.0.1 0 127.0.0.1 22, 127.0.0.1 0 22\n"
	if !strings.HasPrefix(got.stdout, want) || got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestABackgroundProcessDoesNotKeepTheSession(t *testing.T) {
	path, key := serve(t, nil)
	if got := run(t, newSession(t, dial(t, path, key)), "sleep 1000 & echo $!"); got.code != 0 {
		t.Errorf("%+v", got)
	} else if pid, err := strconv.Atoi(strings.TrimSpace(got.stdout)); err != nil {
		t.Error(err)
	} else if process, err := os.FindProcess(pid); err == nil {
		_ = process.Kill()
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	path, key := serve(t, nil)
	client := dial(t, path, key)
	var running sync.WaitGroup
	for range 16 {
		session := newSession(t, client)
		running.Go(func() {
			output, err := session.Output("seq 20000 | tail -1")
			if err != nil || string(output) != "20000\n" {
				t.Errorf("%q %v", output, err)
			}
		})
	}
	running.Wait()
}

func TestSignalAndHangUp(t *testing.T) {
	path, key := serve(t, nil)
	client := dial(t, path, key)
	session := newSession(t, client)
	output, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start(`trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done`); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(output, line); err != nil {
		t.Fatal(err)
	}
	if err := session.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(output)
	var exit *ssh.ExitError
	if err := session.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 || string(rest) != "got\n" {
		t.Errorf("%v, output %q", err, rest)
	}

	// A client that goes takes its program along.
	pidFile := filepath.Join(t.TempDir(), "pid")
	session = newSession(t, client)
	if output, err = session.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := session.Start("echo $$ > " + pidFile + "; echo ready; exec sleep 1000"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(output, line); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	_ = session.Close()
	for {
		if _, err := os.Stat("/proc/" + strings.TrimSpace(string(content))); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestTerminal(t *testing.T) {
	path, key := serve(t, nil)
	session := newSession(t, dial(t, path, key))
	if err := session.RequestPty("vt100", 40, 100, ssh.TerminalModes{ssh.ECHO: 0, ssh.VERASE: 8}); err != nil {
		t.Fatal(err)
	}
	input, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	session.Stdout = &output
	if err := session.Start(`echo "$TERM $SSH_TTY"; tty; stty size; stty -a; read line; stty size`); err != nil {
		t.Fatal(err)
	}
	if err := session.WindowChange(50, 120); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(input, "go on\n")
	if err := session.Wait(); err != nil {
		t.Fatalf("%v: %s", err, output.String())
	}
	lines := strings.Split(strings.ReplaceAll(output.String(), "\r\n", "\n"), "\n")
	if !strings.HasPrefix(lines[0], "vt100 /dev/pts/") || "vt100 "+lines[1] != lines[0] {
		t.Errorf("terminal %q", lines[:2])
	}
	text := output.String()
	if !strings.Contains(text, "-echo ") || !strings.Contains(text, "erase = ^H") || !strings.HasSuffix(text, "50 120\r\n") {
		t.Errorf("output %q", text)
	}
}

func TestWhoIsLetIn(t *testing.T) {
	path, key := serve(t, nil)
	stranger := makeKey(t)
	if _, err := dialAs(path, me(), stranger); err == nil {
		t.Error("a stranger's key was accepted")
	}
	if _, err := dialAs(path, "nobody-of-this-name", key); err == nil {
		t.Error("a user that does not exist was let in")
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = ssh.NewClientConn(conn, path, &ssh.ClientConfig{
		User: me(), Auth: []ssh.AuthMethod{ssh.Password("")},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a test's own server
	})
	if err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("a password: %v", err)
	}
}

func TestKeysRunOut(t *testing.T) {
	keys := NewKeys()
	now := time.Now()
	keys.now = func() time.Time { return now }
	key := makeKey(t).PublicKey()
	if err := keys.Authorize(keyLine(key), time.Minute); err != nil {
		t.Fatal(err)
	}
	if !keys.Contains(key) || keys.Permanent() != 0 {
		t.Error("an authorized key is not known")
	}
	now = now.Add(61 * time.Second)
	if keys.Contains(key) {
		t.Error("a key outlived its time")
	}
	for _, line := range []string{"", "nonsense", `command="true" ` + keyLine(key)} {
		if err := keys.Add(line); err == nil {
			t.Errorf("%q was accepted", line)
		}
	}
}

func TestAuthorizedKeysOfAnAccount(t *testing.T) {
	root := t.TempDir()
	account := passwd.Account{Name: "me", UID: uint32(os.Getuid()), Home: "/home/me"}
	folder := filepath.Join(root, "/home/me/.ssh")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	key, restricted := makeKey(t).PublicKey(), makeKey(t).PublicKey()
	path := filepath.Join(folder, "authorized_keys")
	content := "# comment\n\n" + keyLine(key) + `command="x" ` + keyLine(restricted)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if !AccountAccepts(root, account, key) {
		t.Error("the account's key is refused")
	}
	if AccountAccepts(root, account, restricted) || AccountAccepts(root, account, makeKey(t).PublicKey()) {
		t.Error("a key that should not be is accepted")
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if AccountAccepts(root, account, key) {
		t.Error("a file that everybody may write is believed")
	}
}

func TestTrustedSessionsChooseUserAndFolder(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become others")
	}
	path, key := serve(t, func(config *Config) { config.Trusted = true })
	client, err := dialAs(path, "volantd", key) // any name
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session := newSession(t, client)
	_ = session.Setenv("KESTREL_USER", "nobody")
	_ = session.Setenv("KESTREL_WORKING_DIR", "/usr")
	got := run(t, session, "id -un; pwd; env | grep -c KESTREL")
	if got.stdout != "nobody\n/usr\n0\n" {
		t.Errorf("%+v", got)
	}
	session = newSession(t, client)
	_ = session.Setenv("KESTREL_USER", "12345")
	if got := run(t, session, "id -u"); got.stdout != "12345\n" {
		t.Errorf("%+v", got)
	}
	for name, value := range map[string]string{"KESTREL_USER": "nobody-of-this-name", "KESTREL_WORKING_DIR": "/no/such"} {
		session = newSession(t, client)
		_ = session.Setenv(name, value)
		if got := run(t, session, "true"); got.code != 126 || !strings.Contains(got.stderr, value) {
			t.Errorf("%s=%s: %+v", name, value, got)
		}
	}
}

func TestSubsystems(t *testing.T) {
	handler := func(stream io.ReadWriteCloser) { _, _ = io.Copy(stream, stream) }
	path, key := serve(t, func(config *Config) {
		config.Subsystems = map[string]func(io.ReadWriteCloser){"echo": handler}
	})
	client := dial(t, path, key)
	session := newSession(t, client)
	input, _ := session.StdinPipe()
	output, _ := session.StdoutPipe()
	if err := session.RequestSubsystem("echo"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(input, "hello")
	_ = input.Close()
	if got, err := io.ReadAll(output); err != nil || string(got) != "hello" {
		t.Errorf("%q %v", got, err)
	}
	if err := newSession(t, client).RequestSubsystem("control"); err == nil {
		t.Error("a subsystem that is not offered was accepted")
	}
}

// echoServer answers with what it gets, and end-of-file with end-of-file.
func echoServer(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener
}

func checkEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	message := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = conn.Write(message)
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, message) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(message), err)
	}
	_ = conn.Close()
}

func TestForwardingIntoTheGuest(t *testing.T) {
	path, key := serve(t, nil)
	client := dial(t, path, key)
	port := strconv.Itoa(echoServer(t, "tcp", "127.0.0.1:0").Addr().(*net.TCPAddr).Port)
	for _, host := range []string{"127.0.0.1", "localhost", "workload"} {
		conn, err := client.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		checkEcho(t, conn)
	}
	if _, err := client.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("a connection to a closed port succeeded")
	}
	socket := filepath.Join(t.TempDir(), "echo.sock")
	echoServer(t, "unix", socket)
	conn, err := client.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	checkEcho(t, conn)
}

func TestForwardingOutOfTheGuest(t *testing.T) {
	path, key := serve(t, nil)
	client := dial(t, path, key)
	socket := filepath.Join(t.TempDir(), "in-guest.sock")
	tcp, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local, err := client.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	for _, listener := range []net.Listener{tcp, local} {
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}
		}()
		network, address := "tcp", tcp.Addr().String()
		if listener == local {
			network, address = "unix", socket
		}
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		checkEcho(t, conn)
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		if _, err := net.Dial(network, address); err == nil {
			t.Errorf("%s is open after its end was asked for", address)
		}
	}
}

func TestSecretPortsAreForTheHostOnly(t *testing.T) {
	asked := make(chan uint32, 1)
	listen := func(port uint32) (net.Listener, error) {
		asked <- port
		return net.Listen("tcp", "127.0.0.1:0")
	}
	type forward struct {
		Host string
		Port uint32
	}
	wanted := ssh.Marshal(&forward{"vsock", 9000})
	path, key := serve(t, func(config *Config) { config.ListenSecret = listen })
	if ok, _, err := dial(t, path, key).SendRequest("tcpip-forward", true, wanted); ok || err != nil {
		t.Errorf("a person's session got a secret port (%v)", err)
	}
	path, key = serve(t, func(config *Config) { config.Trusted, config.ListenSecret = true, listen })
	client := dial(t, path, key)
	if ok, _, err := client.SendRequest("tcpip-forward", true, wanted); !ok || err != nil || <-asked != 9000 {
		t.Errorf("the host got no secret port (%v)", err)
	}
	if ok, _, _ := client.SendRequest("cancel-tcpip-forward", true, wanted); !ok {
		t.Error("it cannot be closed")
	}
}

func TestOthersPermissionsHoldForSockets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become others")
	}
	path, key := serve(t, nil)
	client, err := dialAs(path, "nobody", key)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	socket := filepath.Join(t.TempDir(), "roots.sock")
	echoServer(t, "unix", socket)
	if _, err := client.Dial("unix", socket); err == nil {
		t.Error("nobody reached root's socket")
	}
	if _, err := client.ListenUnix("/root-only.sock"); err == nil {
		t.Error("nobody made a socket in /")
	}
	if _, err := client.Listen("tcp", "127.0.0.1:81"); err == nil {
		t.Error("nobody got a port of root's")
	}
}

func TestAnImageWithoutAShell(t *testing.T) {
	s := &session{connection: &connection{server: New(Config{})}, account: passwd.Account{Shell: "/no/such"}}
	if shell := s.shell(); shell != "/bin/sh" {
		t.Errorf("fallback %q", shell)
	}
	for command, want := range map[string][]string{
		`/bin/app --flag 'a b' "c \"d\" \$e" f\ g ''`: {"/bin/app", "--flag", "a b", `c "d" $e`, "f g", ""},
		`a"b"'c'`:    {"abc"},
		"a\\\nb  c ": {"ab", "c"},
		`x a=b ~/c#`: nil,
	} {
		got, err := splitArguments(command)
		if want == nil {
			if err == nil {
				t.Errorf("%q was split into %q", command, got)
			}
			continue
		}
		if err != nil || strings.Join(got, "|") != strings.Join(want, "|") || len(got) != len(want) {
			t.Errorf("%q: %q %v", command, got, err)
		}
	}
	for _, command := range []string{"", "a | b", "a > b", "$HOME", "`x`", "a && b", "a; b", "*.c", "'open", `"open`, `a\`, `"$x"`} {
		if got, err := splitArguments(command); err == nil {
			t.Errorf("%q was split into %q", command, got)
		}
	}
}

func FuzzSplitArguments(f *testing.F) {
	f.Add(`a 'b c' "d"`)
	f.Fuzz(func(t *testing.T, command string) {
		arguments, err := splitArguments(command)
		if err == nil && len(arguments) == 0 {
			t.Fatal("nothing to run and no error")
		}
	})
}
