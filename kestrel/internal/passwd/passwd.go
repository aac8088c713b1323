// SPDX-License-Identifier: Apache-2.0

// Package passwd reads the image's own /etc/passwd and /etc/group, whatever C library the image has or lacks.
//
// Root is the folder that holds /etc: empty in a guest, a temporary folder in tests.
package passwd

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Account is what a process needs to run as somebody.
type Account struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary, without GID
	Home   string
	Shell  string
}

// Lookup finds an account by name or number; an empty name is root's. Root exists even where the image has no passwd,
// and so does every number (passwd(5) is only a table of names), with the home folder / and root's group.
func Lookup(root, name string) (Account, error) {
	if name == "" {
		name = "root"
	}
	number, numberError := strconv.ParseUint(name, 10, 32)
	for _, fields := range readTable(filepath.Join(root, "/etc/passwd"), 7) {
		uid, uidError := strconv.ParseUint(fields[2], 10, 32)
		gid, gidError := strconv.ParseUint(fields[3], 10, 32)
		if uidError != nil || gidError != nil {
			continue
		}
		if fields[0] != name && (numberError != nil || uid != number) {
			continue
		}
		account := Account{
			Name: fields[0], UID: uint32(uid), GID: uint32(gid), Home: fields[5], Shell: fields[6],
		}
		if account.Home == "" {
			account.Home = "/"
		}
		account.Groups = supplementary(root, account)
		return account, nil
	}
	switch {
	case name == "root" || (numberError == nil && number == 0):
		return Account{Name: "root", Home: "/root", Shell: "/bin/sh"}, nil
	case numberError == nil:
		return Account{Name: name, UID: uint32(number), Home: "/", Shell: "/bin/sh"}, nil
	}
	return Account{}, fmt.Errorf("cannot find user %q: /etc/passwd of this guest has no such name", name)
}

// supplementary lists the groups whose member list names the account.
func supplementary(root string, account Account) []uint32 {
	var groups []uint32
	for _, fields := range readTable(filepath.Join(root, "/etc/group"), 4) {
		gid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil || uint32(gid) == account.GID {
			continue
		}
		for member := range strings.SplitSeq(fields[3], ",") {
			if strings.TrimSpace(member) == account.Name {
				groups = append(groups, uint32(gid))
				break
			}
		}
	}
	return groups
}

// LookupGroup finds a group's number by name or number.
func LookupGroup(root, name string) (uint32, error) {
	for _, fields := range readTable(filepath.Join(root, "/etc/group"), 3) {
		if fields[0] != name {
			continue
		}
		if gid, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			return uint32(gid), nil
		}
	}
	if gid, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(gid), nil
	}
	return 0, fmt.Errorf("cannot find group %q: /etc/group of this guest has no such name", name)
}

// readTable returns the rows of a colon-separated table that have at least so many fields. A missing table is empty.
func readTable(path string, fields int) [][]string {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	var rows [][]string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if row := strings.Split(line, ":"); len(row) >= fields {
			rows = append(rows, row)
		}
	}
	return rows
}
