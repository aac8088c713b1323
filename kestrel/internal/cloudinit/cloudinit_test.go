// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/GehirnInc/crypt/sha512_crypt"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

var children = sync.OnceValue(func() *reaper.Reaper {
	started, err := reaper.Start()
	if err != nil {
		panic(err)
	}
	return started
})

// guest is a folder that stands for a guest's root.
type guest struct {
	t        *testing.T
	root     string
	hostname string
	network  bool
	mounted  []string
	// runProgram stands for the programs that would be started, where it is there.
	runProgram func(ctx context.Context, name string, arguments []string, extra ...string) error
	mutex      sync.Mutex
	log        []string
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := &guest{t: t, root: t.TempDir()}
	for path, content := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www:/var/www:/usr/sbin/nologin\n",
		"/etc/group":  "root:x:0:\nwww-data:x:33:\nsudo:x:27:\n",
		"/etc/shadow": "root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n",
		"/bin/sh":     "", // only looked for; scripts run by the real one
	} {
		g.write(path, content)
	}
	return g
}

func (g *guest) write(path, content string) {
	g.t.Helper()
	path = filepath.Join(g.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) read(path string) string {
	g.t.Helper()
	content, err := os.ReadFile(filepath.Join(g.root, path))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(content)
}

func (g *guest) boot(userData string) (*Runner, contract.CloudInitState) {
	return g.bootAs("instance-1", userData)
}

func (g *guest) bootAs(instance, userData string) (*Runner, contract.CloudInitState) {
	g.t.Helper()
	userData = strings.ReplaceAll(userData, "ROOT", g.root)
	runner := New(Options{
		Documents: &contract.CloudInitDocuments{
			InstanceID: instance, UserDataBase64: base64.StdEncoding.EncodeToString([]byte(userData)),
		},
		Reaper:      children(),
		Root:        g.root,
		SetHostname: func(name string) error { g.hostname = name; return nil },
		HasNetwork:  func() bool { return g.network },
		RunProgram:  g.runProgram,
		Mount: func(_ context.Context, device, target, fstype, options string) error {
			g.mounted = append(g.mounted, strings.Join([]string{device, strings.TrimPrefix(target, g.root), fstype, options}, " "))
			return nil
		},
		SwapOn: func(path string) error {
			g.mounted = append(g.mounted, "swap "+strings.TrimPrefix(path, g.root))
			return nil
		},
		Environment: func() []string { return []string{"PATH=" + os.Getenv("PATH"), "VM=1"} },
		Logf: func(format string, arguments ...any) {
			g.mutex.Lock()
			defer g.mutex.Unlock()
			g.log = append(g.log, fmt.Sprintf(format, arguments...))
		},
	})
	runner.Run(context.Background())
	return runner, runner.State()
}

func (g *guest) bootWell(userData string) *Runner {
	g.t.Helper()
	runner, state := g.boot(userData)
	if state.Status != "done" || state.By != "kestrel" || len(state.UnknownModules) > 0 {
		g.t.Fatalf("state %+v", state)
	}
	return runner
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
}

func TestWriteFiles(t *testing.T) {
	needRoot(t)
	g := newGuest(t)
	g.write("/etc/old", "first\n")
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	_, _ = writer.Write([]byte("zipped"))
	_ = writer.Close()
	g.bootWell(`# a comment of the guide's own file

#cloud-config
write_files:
  - path: /etc/environment
    content: |
      DATABASE_URL=postgres://db
  - {path: /a/b/tool, content: x, permissions: '4755', owner: 'www-data:sudo'}
  - {path: /number, permissions: 0600, owner: www-data}
  - {path: /etc/old, content: "second\n", append: true}
  - {path: /b64, encoding: b64, content: aGVsbG8=}
  - {path: /zip, encoding: gz+b64, content: ` + base64.StdEncoding.EncodeToString(zipped.Bytes()) + `}
  - {path: /late, content: late, defer: true, owner: 'newcomer:newcomer'}
users: [newcomer]
`)
	for path, want := range map[string]string{
		"/etc/environment": "DATABASE_URL=postgres://db\n", "/etc/old": "first\nsecond\n", "/b64": "hello", "/zip": "zipped",
	} {
		if got := g.read(path); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string][3]uint32{
		"/etc/environment": {0o100644, 0, 0}, "/a/b/tool": {0o104755, 33, 27}, "/number": {0o100600, 33, 0},
		"/late": {0o100644, 1000, 1000},
	} {
		var status syscall.Stat_t
		if err := syscall.Stat(filepath.Join(g.root, path), &status); err != nil {
			t.Error(err)
		} else if got := [3]uint32{status.Mode, status.Uid, status.Gid}; got != want {
			t.Errorf("%s is %o, want %o", path, got, want)
		}
	}
}

func TestOneBadFileDoesNotKeepTheNextFromBeingWritten(t *testing.T) {
	g := newGuest(t)
	_, state := g.boot(`#cloud-config
write_files:
  - {path: relative, content: x}
  - {path: /a, content: x, owner: nobody-knows}
  - {path: /b, content: x, permissions: rwx}
  - {path: /c, content: x, encoding: rot13}
  - {path: /d, source: {uri: http://x}}
  - nothing
  - {path: /good, content: good}
`)
	if g.read("/good") != "good" {
		t.Error("the good file is not there")
	}
	if state.Status != "error" || len(state.Errors) != 6 {
		t.Errorf("state %+v", state)
	}
}

func TestUsersAndGroups(t *testing.T) {
	needRoot(t)
	g := newGuest(t)
	g.write("/etc/skel/.profile", "skeleton")
	g.write("/etc/sudoers", "root ALL=(ALL) ALL\n")
	runner := g.bootWell(`#cloud-config
groups:
  - empty
  - admins: [root]
users:
  - default
  - name: alice
    gecos: Alice A.
    groups: sudo, admins, fresh
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    ssh_authorized_keys: [ssh-ed25519 AAAA alice]
  - name: bob
    uid: 2000
    lock_passwd: false
    plain_text_passwd: secret
    homedir: /srv/bob
    sudo: false
  - {name: daemon, system: true, primary-group: www-data}
ssh_authorized_keys:
  - ssh-ed25519 BBBB root, with a comma
chpasswd:
  expire: false
  users: [{name: root, password: pass, type: text}]
`)
	accounts := g.read("/etc/passwd")
	for _, line := range []string{
		"alice:x:1000:1003:Alice A.:/home/alice:/bin/bash\n", "bob:x:2000:2000::/srv/bob:/bin/sh\n",
		"daemon:x:999:33::/home/daemon:/bin/sh\n",
	} {
		if !strings.Contains(accounts, line) {
			t.Errorf("no %q in\n%s", line, accounts)
		}
	}
	for _, line := range []string{"empty:x:1000:\n", "admins:x:1001:root,alice\n", "sudo:x:27:alice\n", "fresh:x:1002:alice\n"} {
		if groups := g.read("/etc/group"); !strings.Contains(groups, line) {
			t.Errorf("no %q in\n%s", line, groups)
		}
	}
	hashes := map[string]string{}
	for line := range strings.Lines(g.read("/etc/shadow")) {
		row := strings.Split(line, ":")
		hashes[row[0]] = row[1]
	}
	if !strings.HasPrefix(hashes["alice"], "!") {
		t.Errorf("alice is not locked: %q", hashes["alice"])
	}
	for user, password := range map[string]string{"bob": "secret", "root": "pass"} {
		if err := sha512_crypt.New().Verify(hashes[user], []byte(password)); err != nil {
			t.Errorf("%s: %q: %v", user, hashes[user], err)
		}
	}
	if got := g.read("/home/alice/.profile"); got != "skeleton" {
		t.Errorf("skeleton %q", got)
	}
	if got := g.read("/home/alice/.ssh/authorized_keys"); got != "ssh-ed25519 AAAA alice\n" {
		t.Errorf("alice's keys %q", got)
	}
	if got := g.read("/root/.ssh/authorized_keys"); got != "ssh-ed25519 BBBB root, with a comma\n" {
		t.Errorf("root's keys %q", got)
	}
	if !runner.HasKeys() {
		t.Error("the runner does not know of the keys")
	}
	if got := g.read(sudoersPath); got != "\n# User rules for alice\nalice ALL=(ALL) NOPASSWD:ALL\n" {
		t.Errorf("sudoers %q", got)
	}
	if !strings.Contains(g.read("/etc/sudoers"), "#includedir /etc/sudoers.d") {
		t.Error("sudo does not read the rules")
	}
	if info, _ := os.Stat(filepath.Join(g.root, "/etc/shadow")); info.Mode().Perm() != 0o644 {
		t.Errorf("the mode of shadow changed to %o", info.Mode()) // newGuest made it so
	}
	// At the next boot the keys are there and nothing is done again.
	before := g.read("/etc/passwd")
	again := g.bootWell("#cloud-config\nusers: [carol]\nssh_authorized_keys: [x]\n")
	if g.read("/etc/passwd") != before || !again.HasKeys() {
		t.Error("a module ran again for the same instance, or its keys were forgotten")
	}
}

func TestNamesCannotInjectRows(t *testing.T) {
	g := newGuest(t)
	before := g.read("/etc/passwd")
	_, state := g.boot(`#cloud-config
users:
  - "evil:x:0:0::/:/bin/sh"
  - {name: "a\nb"}
  - {name: gecos, gecos: "x:/:/bin/sh\nevil:x:0:0::/:"}
  - {name: shell, shell: "/bin/sh\nevil"}
groups: ["g:x:0:"]
`)
	if got := g.read("/etc/passwd"); got != before {
		t.Errorf("passwd became\n%s", got)
	}
	if len(state.Errors) != 5 {
		t.Errorf("errors %q", state.Errors)
	}
}

func TestCommandsRunInOrderOncePerInstance(t *testing.T) {
	g := newGuest(t)
	document := `#cloud-config
bootcmd:
  - echo bootcmd $INSTANCE_ID >> ROOT/order
runcmd:
  - cd ROOT
  - [sh, -c, 'echo "list $1" >> order', name, "it's quoted"]
  - "false"
  - echo "string $VM" >> order
`
	g.bootWell(document)
	if got := g.read("/order"); got != "bootcmd instance-1\nlist it's quoted\nstring 1\n" {
		t.Errorf("first boot: %q", got)
	}
	g.bootWell(document)
	if got := g.read("/order"); strings.Count(got, "bootcmd") != 2 || strings.Count(got, "list") != 1 {
		t.Errorf("second boot: %q", got)
	}
	g.bootAs("instance-2", document)
	if got := g.read("/order"); strings.Count(got, "list") != 2 {
		t.Errorf("new instance: %q", got)
	}
}

func TestAFailingScriptIsReportedAndTheRestRuns(t *testing.T) {
	g := newGuest(t)
	_, state := g.boot("#cloud-config\nruncmd: [exit 7]\nfinal_message: up after $UPTIME, {{ version }}\n")
	if !slices.Equal(state.Errors, []string{"runcmd: runcmd exited with code 7"}) {
		t.Errorf("errors %q", state.Errors)
	}
	if last := g.log[len(g.log)-1]; !strings.HasPrefix(last, "cloud-init: up after ") || !strings.HasSuffix(last, ", kestrel") {
		t.Errorf("final message %q", last)
	}
}

func TestCommandsWithoutAShell(t *testing.T) {
	g := newGuest(t)
	if err := os.Remove(filepath.Join(g.root, "/bin/sh")); err != nil {
		t.Fatal(err)
	}
	_, state := g.boot("#cloud-config\nruncmd:\n - [touch, ROOT/made]\n - touch ROOT/not-made\n - [no-such-program]\n")
	g.read("/made")
	if len(state.Errors) != 2 || !strings.Contains(state.Errors[0], "write it as a list") ||
		!strings.Contains(state.Errors[1], "no such program") {
		t.Errorf("errors %q", state.Errors)
	}
}

func TestScripts(t *testing.T) {
	g := newGuest(t)
	g.bootWell("\n#!/bin/sh\n#cloud-config\necho ran >> ROOT/out\n")
	if got := g.read("/out"); got != "ran\n" {
		t.Errorf("%q", got)
	}
	_, state := g.bootAs("other", "#!/no/such/interpreter\n")
	if len(state.Errors) != 1 || !strings.Contains(state.Errors[0], "interpreter is missing in this image: /no/such/interpreter") {
		t.Errorf("errors %q", state.Errors)
	}
}

const mixedDocument = `Content-Type: multipart/mixed; boundary="==B=="
MIME-Version: 1.0

--==B==
Content-Type: text/cloud-config

write_files: [{path: /one, content: "1"}]
hostname: first
--==B==
Content-Type: text/x-shellscript
Content-Transfer-Encoding: base64

%s
--==B==
Content-Type: text/plain

#cloud-config
hostname: second
--==B==
Content-Type: text/x-shellscript-per-boot

#!/bin/sh
echo boot >> ROOT/boot
--==B==
Content-Type: text/cloud-boothook

#!/bin/sh
echo hook >> ROOT/boot
--==B==--
`

func TestMultiPartAndGzip(t *testing.T) {
	g := newGuest(t)
	script := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho script > " + g.root + "/script\n"))
	document := strings.ReplaceAll(fmt.Sprintf(mixedDocument, script), "ROOT", g.root)
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	_, _ = writer.Write([]byte(document))
	_ = writer.Close()
	g.bootWell(zipped.String())
	g.bootWell(zipped.String())
	if g.read("/one") != "1" || g.read("/script") != "script\n" || g.hostname != "second" {
		t.Errorf("one %q, script %q, hostname %q", g.read("/one"), g.read("/script"), g.hostname)
	}
	if got := g.read("/boot"); got != "hook\nboot\nhook\nboot\n" {
		t.Errorf("per boot: %q", got)
	}
}

func TestHostnameHostsAndTimezone(t *testing.T) {
	g := newGuest(t)
	g.write("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 old\n")
	g.write("/usr/share/zoneinfo/Europe/Lisbon", "TZif")
	g.bootWell("#cloud-config\nfqdn: web.example.com\nmanage_etc_hosts: true\ntimezone: Europe/Lisbon\ngrowpart: {mode: auto}\n")
	if g.hostname != "web" || g.read("/etc/hostname") != "web\n" {
		t.Errorf("hostname %q", g.hostname)
	}
	if got := g.read("/etc/hosts"); got != "127.0.0.1 localhost\n127.0.1.1 web.example.com web\n" {
		t.Errorf("hosts %q", got)
	}
	if target, err := os.Readlink(filepath.Join(g.root, "/etc/localtime")); err != nil || target != "/usr/share/zoneinfo/Europe/Lisbon" {
		t.Errorf("localtime %q %v", target, err)
	}
	_, state := g.bootAs("2", "#cloud-config\ntimezone: ../../etc/passwd\n")
	if len(state.Errors) != 1 {
		t.Errorf("errors %q", state.Errors)
	}
}

// packageManager puts a package manager into the guest whose last call is written to /out.
func (g *guest) packageManager(name string) {
	tools := g.t.TempDir()
	program := "#!/bin/sh\nwhile [ $# -gt 0 ] && [ \"$1\" != install ]; do shift; done; echo \"$*\" > " + g.root + "/out\n"
	if err := os.WriteFile(filepath.Join(tools, name), []byte(program), 0o755); err != nil {
		g.t.Fatal(err)
	}
	g.t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
}

// fakeManager makes a package manager the only program on PATH; the file that it returns has a line for every call.
func fakeManager(t *testing.T, name string) (log string) {
	t.Helper()
	tools := t.TempDir()
	log = filepath.Join(tools, "log")
	program := "#!/bin/sh\necho \"$DEBIAN_FRONTEND $*\" >> " + log + "\n"
	if err := os.WriteFile(filepath.Join(tools, name), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools)
	return log
}

const packagesDocument = "#cloud-config\npackage_upgrade: true\npackages: [curl, [jq, '1.6']]\n"

func TestPackagesFailClearly(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, state := newGuest(t).boot(packagesDocument)
	if len(state.Errors) != 1 || !strings.Contains(state.Errors[0], "no package manager") {
		t.Errorf("without a package manager: errors %q", state.Errors)
	}
	log := fakeManager(t, "apk")
	_, state = newGuest(t).boot(packagesDocument)
	if len(state.Errors) != 1 || !strings.Contains(state.Errors[0], "no network") {
		t.Errorf("without a network: errors %q", state.Errors)
	}
	if _, err := os.Stat(log); err == nil {
		t.Error("the package manager was asked although there is no network")
	}
}

func TestPackagesAreInstalledByTheImagesManager(t *testing.T) {
	const conf = "--option=Dpkg::Options::=--force-confold --assume-yes --quiet "
	for manager, want := range map[string][]string{
		"apt-get":  {"noninteractive --quiet update", "noninteractive " + conf + "dist-upgrade", "noninteractive " + conf + "install curl jq=1.6"},
		"apk":      {" update", " upgrade", " add curl jq=1.6"},
		"dnf":      {" -y makecache", " -y upgrade", " -y install curl jq-1.6"},
		"microdnf": {" -y makecache", " -y upgrade", " -y install curl jq-1.6"},
		"yum":      {" -y makecache", " -y upgrade", " -y install curl jq-1.6"},
	} {
		t.Run(manager, func(t *testing.T) {
			log := fakeManager(t, manager)
			g := newGuest(t)
			g.network = true
			g.bootWell(packagesDocument)
			content, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n"); !slices.Equal(lines, want) {
				t.Errorf("%s was called with %q, want %q", manager, lines, want)
			}
		})
	}
}

func TestUnknownModulesAreReported(t *testing.T) {
	g := newGuest(t)
	_, state := g.boot("#cloud-config\nsnap: {commands: [x]}\napt: {}\nhostname: a\nssh_pwauth: no\ndisable_root: false\n")
	if !slices.Equal(state.UnknownModules, []string{"apt", "snap"}) || state.Status != "done" {
		t.Errorf("state %+v", state)
	}
	_, state = g.boot("#include\nhttp://x/\n")
	if !slices.Equal(state.UnknownModules, []string{"#include"}) {
		t.Errorf("state %+v", state)
	}
}

func TestBrokenDocuments(t *testing.T) {
	for document, want := range map[string]string{
		"#cloud-config\na: [":  "not valid YAML",
		"#cloud-config\n- a\n": "not valid YAML",
		"hello":                "neither #cloud-config nor a script",
		"\x1f\x8bnot gzip":     "gzip is broken",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nbroken": "MIME",
		"#cloud-config\nwrite_files: {}\n":                         "list of files",
		"#cloud-config\nruncmd: [{a: b}]\n":                        "neither a list nor a string",
		"#cloud-config\nchpasswd: [a]\n":                           "mapping",
	} {
		_, state := newGuest(t).boot(document)
		if state.Status != "error" || len(state.Errors) == 0 || !strings.Contains(state.Errors[0], want) {
			t.Errorf("%q: %+v", document, state)
		}
	}
}

func TestNoDocuments(t *testing.T) {
	runner := New(Options{Root: t.TempDir()})
	runner.Run(context.Background())
	if state := runner.State(); state.Status != "none" {
		t.Errorf("state %+v", state)
	}
}

func TestSwapFileHasTheHeaderOfMkswap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "swap")
	if err := makeSwapFile(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(content) != 1<<20 || string(content[4086:4096]) != "SWAPSPACE2" || content[1024] != 1 || content[1028] != 255 {
		t.Errorf("%d bytes, signature %q", len(content), content[4086:4096])
	}
}

func TestMountRows(t *testing.T) {
	defaults, _ := mountDefaults(nil)
	for _, testCase := range []struct {
		item   any
		want   mountEntry
		wanted bool
	}{
		{[]any{"vdb", "/data"}, mountEntry{"/dev/vdb", "/data", "auto", "defaults,nofail", "0", "2"}, true},
		{[]any{"LABEL=x", "/d", "ext4", "ro", uint64(0), uint64(0)}, mountEntry{"LABEL=x", "/d", "ext4", "ro", "0", "0"}, true},
		{[]any{"tmpfs", "/t", "tmpfs"}, mountEntry{"tmpfs", "/t", "tmpfs", "defaults,nofail", "0", "2"}, true},
		{[]any{"sr0", "/cd"}, mountEntry{"/dev/sr0", "/cd", "auto", "defaults,nofail", "0", "2"}, true},
		{[]any{"vdb"}, mountEntry{}, false},
		{[]any{"vdb", nil}, mountEntry{}, false},
	} {
		got, err := readMount(testCase.item, defaults)
		if wanted := got.target != ""; err != nil || wanted != testCase.wanted || (wanted && got != testCase.want) {
			t.Errorf("%v: %+v %v %v", testCase.item, got, wanted, err)
		}
	}
	for _, item := range []any{"vdb", []any{"vdb", "relative"}, []any{"vdb", "/x", "a b"}, []any{[]any{}, "/x"}, []any{"ephemeral0", "/x"}} {
		if _, err := readMount(item, defaults); err == nil {
			t.Errorf("%v was accepted", item)
		}
	}
}

func TestTheImagesOwnCloudInitRuns(t *testing.T) {
	g := newGuest(t)
	g.write("/usr/bin/cloud-init", `#!/bin/sh
echo "$*" >> ROOT/stages
if [ "$2" = --mode=final ]; then
  mkdir -p ROOT/run/cloud-init
  echo '{"v1": {"datasource": "NoCloud", "errors": ["it broke"]}}' > ROOT/run/cloud-init/result.json
fi
exit 1
`)
	program := filepath.Join(g.root, "/usr/bin/cloud-init")
	g.write("/usr/bin/cloud-init", strings.ReplaceAll(g.read("/usr/bin/cloud-init"), "ROOT", g.root))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 100)
	runner := New(Options{
		Documents: &contract.CloudInitDocuments{
			InstanceID: "i-1", UserDataBase64: base64.StdEncoding.EncodeToString([]byte("# x\n#cloud-config\nsnap: {}\n")),
		},
		Reaper: children(), Root: g.root, Changed: func() { changed <- struct{}{} },
	})
	runner.Run(context.Background())
	if got := g.read("/stages"); !strings.HasPrefix(got, "init --local\ninit\nmodules --mode=config\n") {
		t.Errorf("stages before the workload: %q", got)
	}
	for runner.State().Status == "running" {
		<-changed
	}
	state := runner.State()
	if state.By != "cloud-init" || state.Status != "error" || !slices.Equal(state.Errors, []string{"it broke"}) {
		t.Errorf("state %+v", state)
	}
	if got := g.read(seedFolder + "/user-data"); got != "#cloud-config\nsnap: {}\n" {
		t.Errorf("seed %q", got)
	}
	if got := g.read(seedFolder + "/meta-data"); got != "instance-id: \"i-1\"\n" {
		t.Errorf("meta-data %q", got)
	}
}
