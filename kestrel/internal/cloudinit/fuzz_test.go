// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"strings"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// FuzzUserData applies any bytes to a guest in which nothing is started or mounted. Whatever they say, no module may
// panic, the tables of accounts stay tables, and nothing is written outside of the guest's folder.
func FuzzUserData(f *testing.F) {
	for _, seed := range []string{
		"#cloud-config\nruncmd: [a, [b]]\nbootcmd: [c]\n", "#!/bin/sh\n", mixedDocument, "\x1f\x8b", "#include\n", "",
		"#cloud-config\nmounts: [[a, /b, c, d, 0, 0], [tmpfs, /t], [a, null]]\nmount_default_fields: [a, b]\nusers: [{name: a, groups: [b]}]\n",
		"#cloud-config\na: &a [*a]\n", "#cloud-config\n? [x]\n: y\n", "#cloud-config-archive\n- {content: x, type: text/plain}\n",
		"#cloud-config\nmerge_how: list(append)+dict(recurse_list)\nusers: {a: {uid: 5, expiredate: 2031-01-02, inactive: '4'}}\nuser: b\n",
		"#cloud-config\nwrite_files: [{path: /a, permissions: 0644, encoding: gz+b64, content: !!binary aGk=, owner: 'root:root'}]\n",
		"#cloud-config\nhostname: a\nfqdn: b\nmanage_etc_hosts: x\nntp: {servers: a}\ntimezone: UTC\nchpasswd: {list: ['a:R']}\npassword: x\n",
		makeMultipart([2]string{"Content-Type: text/x-shellscript\r\nContent-Disposition: attachment; filename=\"../x\"", "#!/bin/sh"}),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if strings.Contains(string(document), "swap") || len(document) > 1<<16 {
			return // a swap file is as large as it is told, and the parser's time grows with the square of a document's keys
		}
		g := newGuest(t)
		g.runProgram = func(context.Context, string, []string, ...string) error { return nil }
		_, state := g.boot(string(document))
		checkState(t, state)
		for path, colons := range map[string]int{"/etc/passwd": 6, "/etc/group": 3, "/etc/shadow": 8} {
			for line := range strings.Lines(g.read(path)) {
				if got := strings.Count(line, ":"); got != colons && !strings.Contains(string(document), path) {
					t.Fatalf("%s has got the line %q", path, line)
				}
			}
		}
	})
}

func checkState(t *testing.T, state contract.CloudInitState) {
	t.Helper()
	if state.Status != "done" && state.Status != "error" {
		t.Fatalf("status %q", state.Status)
	}
	for _, text := range append(state.Errors, state.UnknownModules...) {
		if strings.Contains(text, "the agent failed") {
			t.Fatal(text)
		}
	}
}
