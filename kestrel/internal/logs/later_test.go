// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

func TestAStoreForLaterContinuesEarlierLogs(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "log")
	earlier := openStore(t, Options{Directories: []string{folder}})
	write(t, earlier, "app", Stdout, "one\n")
	earlier.Close()

	store := OpenLater(Options{Directories: []string{folder}}, func(err error) { t.Error(err) })
	t.Cleanup(store.Close)
	silent, err := store.Pipe("silent", Stdout) // has a log before the folder is read
	if err != nil {
		t.Fatal(err)
	}
	write(t, store, "app", Stdout, "two\n")
	if found := texts(query(t, store, contract.LogQuery{})); found != "app:one,app:two" {
		t.Errorf("kept are %s", found)
	}
	_ = silent.Write.Close()
	<-silent.Drained()
}

func TestAStoreForLaterLeavesTheDiskAloneUntilItIsUsed(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "log")
	store := OpenLater(Options{Directories: []string{folder}}, func(err error) { t.Error(err) })
	t.Cleanup(store.Close)
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Fatalf("the folder is there before anything was said: %v", err)
	}
	store.Say("hello")
	if found := texts(query(t, store, contract.LogQuery{})); found != "kestrel:hello" {
		t.Errorf("kept are %s", found)
	}
}

func TestAStoreForLaterTellsThatItCannotBeOpened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var failure error
	store := OpenLater(Options{Directories: []string{filepath.Join(file, "log")}}, func(err error) { failure = err })
	t.Cleanup(store.Close)
	store.Say("lost")
	if failure == nil {
		t.Error("nobody was told")
	}
}
