// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// table is one of /etc/passwd, shadow, group and gshadow: rows of fields between colons. Small images have no useradd,
// so the agent writes the files themselves. Lines that are no rows are kept as they are.
type table struct {
	path   string
	fields int
	mode   os.FileMode
	lines  []string
	exists bool
	dirty  bool
}

func readTable(path string, fieldCount int, mode os.FileMode) (*table, error) {
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	t := &table{path: path, fields: fieldCount, mode: mode, exists: err == nil}
	if text := strings.TrimRight(string(content), "\n"); text != "" {
		t.lines = strings.Split(text, "\n")
	}
	return t, nil
}

// find returns the fields of a row and its place, or -1.
func (t *table) find(name string) ([]string, int) {
	for index, line := range t.lines {
		if row := strings.Split(line, ":"); row[0] == name && len(row) >= t.fields {
			return row, index
		}
	}
	return nil, -1
}

// set replaces the row of that name or adds one.
func (t *table) set(row []string) {
	_, index := t.find(row[0])
	line := strings.Join(row, ":")
	if index < 0 {
		t.lines = append(t.lines, line)
	} else {
		t.lines[index] = line
	}
	t.dirty = true
}

// numbers are the ids in use.
func (t *table) numbers() map[int]bool {
	used := make(map[int]bool)
	for _, line := range t.lines {
		if row := strings.Split(line, ":"); len(row) >= t.fields {
			if number, err := strconv.Atoi(row[2]); err == nil {
				used[number] = true
			}
		}
	}
	return used
}

// save replaces the file in one step, with the owner and mode that it had.
func (t *table) save() error {
	if !t.dirty {
		return nil
	}
	path := t.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	mode, uid, gid := t.mode, -1, -1
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
		if status, ok := info.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(status.Uid), int(status.Gid)
		}
	}
	temporary := path + ".kestrel"
	if err := os.WriteFile(temporary, []byte(strings.Join(t.lines, "\n")+"\n"), mode); err != nil {
		return err
	}
	err := os.Chmod(temporary, mode)
	if err == nil && os.Getuid() == 0 {
		err = os.Chown(temporary, uid, gid)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
		return err
	}
	t.dirty = false
	return nil
}

// accounts are the four tables together.
type accounts struct {
	passwd, shadow, group, gshadow *table
	numbers                        numberRanges
}

func (r *Runner) openAccounts() (*accounts, error) {
	var a accounts
	for _, wanted := range []struct {
		into   **table
		path   string
		fields int
		mode   os.FileMode
	}{
		{&a.passwd, "/etc/passwd", 7, 0o644},
		{&a.shadow, "/etc/shadow", 8, 0o600},
		{&a.group, "/etc/group", 4, 0o644},
		{&a.gshadow, "/etc/gshadow", 4, 0o600},
	} {
		found, err := readTable(r.path(wanted.path), wanted.fields, wanted.mode)
		if err != nil {
			return nil, fmt.Errorf("cannot read accounts: %w", err)
		}
		*wanted.into = found
	}
	a.numbers = readRanges(readText(r.path("/etc/login.defs")))
	if _, index := a.passwd.find("root"); index < 0 {
		a.passwd.set([]string{"root", "x", "0", "0", "root", "/root", shellPath})
	}
	if _, index := a.group.find("root"); index < 0 {
		a.group.set([]string{"root", "x", "0", ""})
	}
	return &a, nil
}

func (a *accounts) save() error {
	if !a.gshadow.exists { // an image without group passwords stays one
		a.gshadow.dirty = false
	}
	return errors.Join(a.group.save(), a.gshadow.save(), a.shadow.save(), a.passwd.save())
}

func (a *accounts) addGroup(name string, number int) {
	a.group.set([]string{name, "x", strconv.Itoa(number), ""})
	a.gshadow.set([]string{name, "!", "", ""})
}

// addMember puts a user into a group's list.
func (a *accounts) addMember(group, user string) error {
	for _, t := range []*table{a.group, a.gshadow} {
		row, index := t.find(group)
		if index < 0 {
			if t == a.gshadow {
				continue
			}
			return fmt.Errorf("there is no group %s", group)
		}
		var members []string
		if row[3] != "" {
			members = strings.Split(row[3], ",")
		}
		if !slices.Contains(members, user) {
			row[3] = strings.Join(append(members, user), ",")
			t.set(row)
		}
	}
	return nil
}

// setPassword puts a hash into shadow; expired: it must be changed at the first login.
func (a *accounts) setPassword(user, hash string, today int, expired bool) {
	row, index := a.shadow.find(user)
	if index < 0 {
		row = []string{user, "!", strconv.Itoa(today), "0", "99999", "7", "", "", ""}
	}
	row[1], row[2] = hash, strconv.Itoa(today)
	if expired {
		row[2] = "0"
	}
	a.shadow.set(row)
	if entry, index := a.passwd.find(user); index >= 0 && entry[1] != "x" {
		entry[1] = "x"
		a.passwd.set(entry)
	}
}

// setExpiry fills shadow's fields for accounts that end: days without use after the password's end, and a last day.
// Passwords of system accounts have no age.
func (a *accounts) setExpiry(user, inactive, expires string, system bool) {
	row, index := a.shadow.find(user)
	if index < 0 {
		return
	}
	row[6], row[7] = inactive, expires
	if system {
		row[3], row[4], row[5] = "", "", ""
	}
	a.shadow.set(row)
}

// lock makes the password useless and leaves the account open for keys.
func (a *accounts) lock(user string, today int) {
	row, index := a.shadow.find(user)
	if index < 0 {
		a.setPassword(user, "!", today, false)
		return
	}
	if !strings.HasPrefix(row[1], "!") {
		row[1] = "!" + row[1]
		a.shadow.set(row)
	}
}

func (a *accounts) unlock(user string) {
	if row, index := a.shadow.find(user); index >= 0 && strings.HasPrefix(row[1], "!") {
		row[1] = strings.TrimLeft(row[1], "!")
		a.shadow.set(row)
	}
}
