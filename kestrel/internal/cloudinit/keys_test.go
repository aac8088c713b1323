// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// doneCase is a document that uses keys the table calls done, and what must come of it. A value of files that begins
// with "!" must not be found there.
type doneCase struct {
	keys     string
	document string
	files    map[string]string
	errors   []string
	hostname string
	mounted  []string
}

const userCases = `
    gecos: Ann A.
    uid: %d
    homedir: /srv/%s
    shell: /bin/ash
    groups: [sudo]
    primary_group: crew
    create_groups: true
    expiredate: '2031-01-02'
    inactive: '5'
    lock_passwd: false
    hashed_passwd: $6$salt$hash
    sudo: ALL=(ALL) ALL
    ssh_authorized_keys: [ssh-ed25519 KEY]
`

func doneCases() []doneCase {
	var cases []doneCase
	for path, lead := range map[string]string{"user": "user:\n    name: ann", "users[]": "users:\n  - name: ann"} {
		keys := ""
		for _, key := range strings.Fields("name gecos uid homedir shell groups primary_group create_groups expiredate inactive " +
			"lock_passwd hashed_passwd sudo ssh_authorized_keys") {
			keys += " " + path + "." + key
		}
		cases = append(cases, doneCase{
			keys:     strings.TrimSuffix(path, "[]") + keys,
			document: lead + fmt.Sprintf(userCases, 4321, "ann"),
			files: map[string]string{
				"/etc/passwd": "ann:x:4321:1000:Ann A.:/srv/ann:/bin/ash\n", "/etc/group": "crew:x:1000:\n",
				"/etc/shadow": fmt.Sprintf("ann:$6$salt$hash:%d:0:99999:7:5:22281:\n", today()),
				sudoersPath:   "ann ALL=(ALL) ALL\n", "/srv/ann/.ssh/authorized_keys": "ssh-ed25519 KEY\n",
			},
		}, doneCase{
			keys:     path + ".system " + path + ".no_user_group " + path + ".plain_text_passwd " + path + ".groups.*",
			document: lead + "\n    system: true\n    no_user_group: true\n    plain_text_passwd: x\n    groups: {sudo: }\n",
			files: map[string]string{
				"/etc/passwd": "ann:x:999:100::/home/ann:/bin/sh\n", "/etc/group": "sudo:x:27:ann\n", "/etc/shadow": "ann:!$6$",
			},
		}, doneCase{
			keys:     path + ".passwd " + path + ".no_create_home",
			document: lead + "\n    passwd: $6$a$b\n    no_create_home: true\n",
			files:    map[string]string{"/etc/shadow": "ann:!$6$a$b:", "/home/ann": "!"},
		})
	}
	return append(cases, []doneCase{
		{
			keys:     "bootcmd runcmd",
			document: "bootcmd: [echo one >> ROOT/out]\nruncmd: [[sh, -c, echo two >> ROOT/out]]\n",
			files:    map[string]string{"/out": "one\ntwo\n"},
		}, {
			keys:     "chpasswd chpasswd.expire chpasswd.users chpasswd.users[].name chpasswd.users[].password chpasswd.users[].type",
			document: "chpasswd: {expire: true, users: [{name: www-data, password: $6$a$b, type: hash}]}\n",
			files:    map[string]string{"/etc/shadow": "www-data:$6$a$b:0:"},
		}, {
			keys:     "chpasswd.list",
			document: "chpasswd: {expire: false, list: ['www-data:$6$a$b']}\n",
			files:    map[string]string{"/etc/shadow": fmt.Sprintf("www-data:$6$a$b:%d:", today())},
		}, {
			keys:     "password",
			document: "password: secret\nchpasswd: {expire: false}\n",
			files:    map[string]string{"/etc/shadow": "root:$6$"},
		}, {
			keys:     "create_hostname_file hostname",
			document: "hostname: web\ncreate_hostname_file: false\n",
			files:    map[string]string{"/etc/hostname": "!", "/etc/hosts": "127.0.1.1 web\n"},
			hostname: "web",
		}, {
			keys:     "fqdn prefer_fqdn_over_hostname",
			document: "hostname: web\nfqdn: web.example.com\nprefer_fqdn_over_hostname: true\n",
			files:    map[string]string{"/etc/hostname": "web.example.com\n", "/etc/hosts": "127.0.1.1 web.example.com web\n"},
			hostname: "web.example.com",
		}, {
			keys:     "preserve_hostname",
			document: "hostname: web\npreserve_hostname: true\n",
			files:    map[string]string{"/etc/hostname": "!", "/etc/hosts": "!web"},
		}, {
			keys:     "manage_etc_hosts",
			document: "hostname: web\nmanage_etc_hosts: false\n",
			files:    map[string]string{"/etc/hosts": "!web"},
			hostname: "web",
		}, {
			keys:     "final_message",
			document: "final_message: done\n",
		}, {
			keys:     "groups groups[].*",
			document: "groups: [plain, {full: [www-data]}]\n",
			files:    map[string]string{"/etc/group": "plain:x:1000:\nfull:x:1001:www-data\n"},
		}, {
			keys:     "groups.*",
			document: "groups: {full: [www-data]}\n",
			files:    map[string]string{"/etc/group": "full:x:1000:www-data\n"},
		}, {
			keys:     "growpart growpart.mode growpart.devices resize_rootfs",
			document: "growpart: {mode: 'off', devices: [/, /dev/vdb]}\nresize_rootfs: false\n",
			errors:   []string{"comes too late", "only the root file system is grown, not [/dev/vdb]", "resize_rootfs false comes too late"},
		}, {
			keys: "merge_how merge_how[].name merge_how[].settings",
			document: "runcmd: [echo one >> ROOT/out]\n--PART\n#cloud-config\nmerge_how: [{name: list, settings: [append]}, " +
				"{name: dict, settings: [no_replace, recurse_list]}]\nruncmd: [echo two >> ROOT/out]\n",
			files: map[string]string{"/out": "one\ntwo\n"},
		}, {
			keys: "merge_type merge_type[].name merge_type[].settings",
			document: "runcmd: [echo one >> ROOT/out]\n--PART\n#cloud-config\nmerge_type: [{name: list, settings: [prepend]}, " +
				"{name: dict, settings: [no_replace, recurse_list]}]\nruncmd: [echo two >> ROOT/out]\n",
			files: map[string]string{"/out": "two\none\n"},
		}, {
			keys: "mounts mount_default_fields",
			document: "mount_default_fields: [null, null, auto, 'ro,noauto', '0', '0']\nmounts: [[tmpfs, /t, tmpfs, size=1M], [vdz, /gone, ext4, nofail], " +
				"[LABEL=x, /later], [vdy, /not], [vdy, null], [tmpfs, '/with space', tmpfs, ro]]\n",
			files: map[string]string{"/etc/fstab": "tmpfs\t/t\ttmpfs\tsize=1M,comment=cloudconfig\t0\t0\n" +
				"/dev/vdz\t/gone\text4\tnofail,comment=cloudconfig\t0\t0\nLABEL=x\t/later\tauto\tro,noauto,comment=cloudconfig\t0\t0\n" +
				"tmpfs\t/with\\040space\ttmpfs\tro,comment=cloudconfig\t0\t0\n"},
			mounted: []string{"tmpfs /t tmpfs size=1M", "tmpfs /with space tmpfs ro"},
		}, {
			keys:     "swap swap.filename swap.size swap.maxsize",
			document: "swap: {filename: /extra/swap, size: auto, maxsize: 1M}\n",
			files:    map[string]string{"/etc/fstab": "/extra/swap\tnone\tswap\tsw,comment=cloudconfig\t0\t0\n", "/extra/swap": "SWAPSPACE2"},
			mounted:  []string{"swap /extra/swap"},
		}, {
			keys:     "ntp ntp.servers ntp.pools ntp.ntp_client",
			document: "write_files: [{path: /usr/sbin/chronyd}, {path: /usr/sbin/ntpd}]\nntp: {servers: [a], pools: [b], ntp_client: ntp}\n",
			files:    map[string]string{"/etc/ntp.conf": "server a iburst\npool b iburst\n", "/etc/chrony": "!"},
		}, {
			keys:     "ntp.enabled",
			document: "ntp: {enabled: false}\n",
		}, {
			keys:     "package_update package_upgrade packages packages[].apt apt_update apt_upgrade",
			document: "package_update: true\npackage_upgrade: true\napt_update: true\napt_upgrade: true\npackages: [a, {apt: [b, [c, '1']]}]\n",
			files:    map[string]string{"/out": "install a b c=1\n"},
		}, {
			keys:     "ssh_authorized_keys",
			document: "ssh_authorized_keys: [ssh-ed25519 KEY]\n",
			files:    map[string]string{"/root/.ssh/authorized_keys": "ssh-ed25519 KEY\n"},
		}, {
			keys:     "timezone",
			document: "write_files: [{path: /usr/share/zoneinfo/Zone}]\ntimezone: Zone\n",
			files:    map[string]string{"/etc/timezone": "Zone\n"},
		}, {
			keys: "write_files write_files[].append write_files[].content write_files[].defer write_files[].encoding write_files[].owner " +
				"write_files[].path write_files[].permissions",
			document: "write_files: [{path: /a, content: one, owner: 'root:root', permissions: '0600'}, {path: /a, content: dHdv, encoding: b64, " +
				"append: true}, {path: /b, content: last, defer: true}, {path: /c, content: !!binary aGkA}, {path: /d, content: x, encoding: rot13}]\n",
			files:  map[string]string{"/a": "onetwo", "/b": "last", "/c": "hi\x00", "/d": "x"},
			errors: []string{`encoding "rot13" is not known: the content is written as it is`},
		},
	}...)
}

func TestWhatTheTableCallsDoneIsDone(t *testing.T) {
	needRoot(t)
	left := make(map[string]bool)
	for path, row := range keyRows() {
		left[path] = row.state == keyDone
	}
	for _, testCase := range doneCases() {
		t.Run(testCase.keys[:min(60, len(testCase.keys))], func(t *testing.T) {
			g := newGuest(t)
			g.network = true
			g.packageManager("apt-get")
			g.write("/etc/hosts", "127.0.0.1 localhost\n")
			_, state := g.boot(inParts("#cloud-config\n" + testCase.document))
			checkErrors(t, state.Errors, testCase.errors)
			if len(state.UnknownModules) > 0 {
				t.Errorf("undone %q", state.UnknownModules)
			}
			if g.hostname != testCase.hostname || !slices.Equal(g.mounted, testCase.mounted) {
				t.Errorf("hostname %q, mounted %q", g.hostname, g.mounted)
			}
			for path, want := range testCase.files {
				content, err := os.ReadFile(filepath.Join(g.root, path))
				unwanted, negated := strings.CutPrefix(want, "!")
				if found := err == nil && strings.Contains(string(content), unwanted); found == negated {
					t.Errorf("%s holds %q (%v), want %q", path, content, err, want)
				}
			}
		})
		for key := range strings.FieldsSeq(testCase.keys) {
			if !left[key] {
				t.Errorf("%s is not called done by the table, or has two tests", key)
			}
			left[key] = false
		}
	}
	maps.DeleteFunc(left, func(_ string, open bool) bool { return !open })
	if len(left) > 0 {
		t.Errorf("called done without a test: %v", slices.Sorted(maps.Keys(left)))
	}
}

func checkErrors(t *testing.T, errors, want []string) {
	t.Helper()
	if len(errors) != len(want) {
		t.Errorf("errors %q, want %q", errors, want)
		return
	}
	for index := range want {
		if !strings.Contains(errors[index], want[index]) {
			t.Errorf("error %q, want %q", errors[index], want[index])
		}
	}
}

// inParts makes a MIME document of one whose parts are apart from each other by lines of "--PART".
func inParts(document string) string {
	if !strings.Contains(document, "\n--PART\n") {
		return document
	}
	text := "Content-Type: multipart/mixed; boundary=PART\n\n"
	for part := range strings.SplitSeq(document, "--PART\n") {
		text += "--PART\nContent-Type: text/cloud-config\n\n" + part
	}
	return text + "--PART--\n"
}

// nest makes a document of one path of the schema.
func nest(path string, value any) map[string]any {
	names := strings.Split(path, ".")
	for index := len(names) - 1; index >= 0; index-- {
		name, isList := strings.CutSuffix(names[index], "[]")
		if isList {
			value = []any{value}
		}
		value = map[string]any{name: value}
	}
	return value.(map[string]any)
}

func TestWhatTheTableCallsReportedIsReported(t *testing.T) {
	for path, row := range keyRows() {
		got := findUndone(nest(path, map[string]any{"asked": "for"}))
		want := []string{path}
		if row.state != keyReported {
			want = nil
		}
		if row.state != keyDone && !slices.Equal(got, want) {
			t.Errorf("%s, which is %s: undone %q", path, row.state, got)
		}
		for _, harmless := range row.harmless {
			if got := findUndone(nest(path, harmless)); len(got) > 0 {
				t.Errorf("%s: %s is reported as undone: %q", path, harmless, got)
			}
		}
	}
}

func TestKeysThatTheTableDoesNotKnowAreReported(t *testing.T) {
	for document, want := range map[string][]string{
		"users: [{name: a, shel: x}, {name: b, doas: [x], ssh-import-id: [y]}]": {"users[].doas", "users[].shel", "users[].ssh-import-id"},
		"users: {a: {doas: [x]}, b: true}":                                      {"users[].doas"},
		"write-files: []\nsnap:\nssh_pwauth: no\n":                              {"write-files"},
		"apt: {sources: {a: b}}\nuser: {doas: false}":                           {"apt"},
		"groups: {a: [b]}\nwrite_files: [{source: {u: v}}]":                     {"write_files[].source"},
	} {
		data := parseUserData([]byte("#cloud-config\n" + document))
		if got := findUndone(data.config); !slices.Equal(got, want) {
			t.Errorf("%s: undone %q, want %q", document, got, want)
		}
	}
}

// TestEveryKeyOfTheSchemaIsInTheTable takes the list from testdata, and from a schema of upstream's that the environment
// names; tests/integration/kestrel brings Debian's.
func TestEveryKeyOfTheSchemaIsInTheTable(t *testing.T) {
	file := "testdata/schema-keys.txt"
	if given := os.Getenv("VOLANT_CLOUD_CONFIG_KEYS"); given != "" {
		file = given
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(content)) {
		path := strings.TrimSpace(line)
		if path == "" || path[0] == '#' {
			continue
		}
		count++
		first, rest, _ := strings.Cut(path, ".")
		if rest != "" {
			path = first + "." + strings.ReplaceAll(rest, "-", "_")
		}
		if !inTable(path) {
			t.Errorf("%s is not in keys.txt", path)
		}
	}
	if count < 300 {
		t.Errorf("%d keys are no schema", count)
	}
}

// inTable says whether a path has a row, or one above it that is not done and stands for all below.
func inTable(path string) bool {
	if _, ok := keyRows()[path]; ok {
		return true
	}
	for index := len(path) - 1; index > 0; index-- {
		if path[index] != '.' && path[index] != '[' {
			continue
		}
		if row, ok := keyRows()[path[:index]]; ok {
			return row.state != keyDone
		}
	}
	return false
}

func TestTheTableIsInOrder(t *testing.T) {
	count := 0
	for line := range strings.Lines(keysText) {
		if line[0] == '#' {
			continue
		}
		count++
		words := strings.Fields(line)
		if !slices.Contains([]string{"done", "reported", "ignored"}, words[0]) {
			t.Errorf("state of %q", line)
		}
		if len(words) > 2 && words[2] != "unless" && words[2] != "|" {
			t.Errorf("what is %q?", line)
		}
	}
	if count != len(keyRows()) {
		t.Errorf("%d lines, %d rows: a path is there twice", count, len(keyRows()))
	}
}
