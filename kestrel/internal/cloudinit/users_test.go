// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What upstream works on in testdata/users.json.
const (
	usersPasswd = "root:x:0:0:root:/root:/bin/sh\ngames:x:5:60:games:/usr/games:/usr/sbin/nologin\n" +
		"www-data:x:33:33:www:/var/www:/usr/sbin/nologin\n"
	usersGroup  = "root:x:0:\nsudo:x:27:\nwww-data:x:33:\ncdrom:x:24:\ngames:x:60:\nusers:x:100:\n"
	usersShadow = "root:*:19000:0:99999:7:::\ngames:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n"
)

// plainHash is a hash of a salt that was drawn; hashes that the cases give have the salt s.
var plainHash = regexp.MustCompile(`^(!?)\$(6|y)\$[^:]{8,}`)

// TestAccountsAreWhatUpstreamMakesOfThem holds the agent to recorded results: upstream's create_group and create_user
// of 2026-08, with shadow 4.13 of Debian 12, run on cases of our own.
func TestAccountsAreWhatUpstreamMakesOfThem(t *testing.T) {
	needRoot(t)
	content, err := os.ReadFile("testdata/users.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Config                json.RawMessage
		Passwd, Group, Shadow []string
		Homes, Failed         []string
	}
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	for _, testCase := range cases {
		t.Run(string(testCase.Config), func(t *testing.T) {
			g := newGuest(t)
			g.write("/etc/passwd", usersPasswd)
			g.write("/etc/group", usersGroup)
			g.write("/etc/shadow", usersShadow)
			g.write("/home/.keep", "")
			_, state := g.boot("#cloud-config\n" + string(testCase.Config))
			g.compare("/etc/passwd", usersPasswd, testCase.Passwd)
			g.compare("/etc/group", usersGroup, testCase.Group)
			g.compare("/etc/shadow", usersShadow, testCase.Shadow)
			homes, _ := filepath.Glob(filepath.Join(g.root, "home", "[a-z]*"))
			for index := range homes {
				homes[index] = filepath.Base(homes[index])
			}
			if !slices.Equal(homes, testCase.Homes) {
				t.Errorf("homes %q, want %q", homes, testCase.Homes)
			}
			for _, name := range testCase.Failed {
				if !slices.ContainsFunc(state.Errors, func(text string) bool { return strings.Contains(text, "user "+name+":") }) {
					t.Errorf("upstream fails to create %s, errors here: %q", name, state.Errors)
				}
			}
		})
	}
}

// compare looks for the lines that a table has got, without what differs from run to run.
func (g *guest) compare(path, before string, want []string) {
	g.t.Helper()
	old := strings.Split(before, "\n")
	got := []string{}
	for line := range strings.Lines(g.read(path)) {
		line = strings.TrimRight(line, "\n")
		if slices.Contains(old, line) {
			continue
		}
		if path == "/etc/shadow" {
			row := strings.Split(line, ":")
			row[1] = plainHash.ReplaceAllString(row[1], "$1$$*")
			if row[2] == strconv.Itoa(today()) {
				row[2] = "today"
			}
			line = strings.Join(row, ":")
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		g.t.Errorf("%s got %q, want %q", path, got, want)
	}
}
