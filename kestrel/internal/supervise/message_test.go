// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestALastMessageIsReadFromItsFileAlone(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "some", "message")
	for _, written := range []string{"first", "", strings.Repeat("x", 2*messageLimit), "\xff"} {
		if err := offerMessage(path); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 || info.Size() != 0 {
			t.Fatalf("what is offered is %v, %v", info, err)
		}
		if err := os.WriteFile(path, []byte(written), 0o600); err != nil {
			t.Fatal(err)
		}
		want := strings.ToValidUTF8(written[:min(len(written), messageLimit)], "\uFFFD")
		if got := readMessage(path); got != want {
			t.Errorf("%.20q was read as %.20q", written, got)
		}
	}
	secret, pipe := filepath.Join(folder, "secret"), filepath.Join(folder, "pipe")
	if err := os.WriteFile(secret, []byte("geheim"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(folder, "link")
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, folder, filepath.Join(folder, "nothing")} {
		if got := readMessage(path); got != "" {
			t.Errorf("%s was read: %q", path, got)
		}
	}
	if err := offerMessage(link); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(secret); err != nil || string(content) != "geheim" {
		t.Errorf("behind the link is %q, %v", content, err)
	}
}
