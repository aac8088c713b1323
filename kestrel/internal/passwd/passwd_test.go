// SPDX-License-Identifier: Apache-2.0

package passwd

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func makeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLookup(t *testing.T) {
	root := makeRoot(t, map[string]string{
		"passwd": "# comment\nbroken:x:1\nroot:x:0:0:root:/root:/bin/bash\nweb:x:33:34::/srv:/usr/sbin/nologin\nodd:x:a:b::/:/bin/sh\nhomeless:x:7:7:::\n",
		"group":  "root:x:0:\nweb:x:34:web\nssl:x:50:other, web\nmail:x:51:webber\n",
	})
	for name, want := range map[string]Account{
		"":         {Name: "root", Home: "/root", Shell: "/bin/bash"},
		"root":     {Name: "root", Home: "/root", Shell: "/bin/bash"},
		"web":      {Name: "web", UID: 33, GID: 34, Groups: []uint32{50}, Home: "/srv", Shell: "/usr/sbin/nologin"},
		"33":       {Name: "web", UID: 33, GID: 34, Groups: []uint32{50}, Home: "/srv", Shell: "/usr/sbin/nologin"},
		"homeless": {Name: "homeless", UID: 7, GID: 7, Home: "/"},
		"4711":     {Name: "4711", UID: 4711, Home: "/", Shell: "/bin/sh"},
	} {
		if got, err := Lookup(root, name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v %v", name, got, err)
		}
	}
	for _, name := range []string{"odd", "nobody", "-1", "4294967296"} {
		if got, err := Lookup(root, name); err == nil {
			t.Errorf("%q: %+v", name, got)
		}
	}
}

func TestAnImageWithoutTables(t *testing.T) {
	root := makeRoot(t, nil)
	if got, err := Lookup(root, "root"); err != nil || got.Home != "/root" || got.UID != 0 {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := LookupGroup(root, "staff"); err == nil {
		t.Error("found a group in no table")
	}
	if gid, err := LookupGroup(root, "12"); err != nil || gid != 12 {
		t.Errorf("%d %v", gid, err)
	}
}
