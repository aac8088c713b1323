// SPDX-License-Identifier: Apache-2.0

// Package program finds out what a program is started with: its file, its environment, its identity.
package program

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/passwd"
)

// Find looks a program up as execvp would, in the PATH of the environment that it will get, and says in words what
// is missing: also the interpreter of a script, which execve reports as if the script itself were not there.
func Find(name string, environment []string, directory string) (string, error) {
	if name == "" {
		return "", errors.New("cannot start: no command is given")
	}
	if strings.Contains(name, "/") {
		return examine(absolute(name, directory))
	}
	searchPath := Get(environment, "PATH")
	var denied error
	for _, folder := range filepath.SplitList(searchPath) {
		candidate := filepath.Join(absolute(folder, directory), name)
		if _, err := os.Stat(candidate); err != nil {
			continue
		}
		path, err := examine(candidate)
		if err == nil {
			return path, nil
		}
		denied = err
	}
	if denied != nil {
		return "", denied
	}
	return "", fmt.Errorf("cannot start %s: there is no such program in PATH (%s)", name, searchPath)
}

func absolute(path, directory string) string {
	if filepath.IsAbs(path) {
		return path
	}
	if directory == "" {
		directory = "/"
	}
	return filepath.Join(directory, path)
}

func examine(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("cannot start %s: there is no such file", path)
	case err != nil:
		return "", fmt.Errorf("cannot start %s: %w", path, errors.Unwrap(err))
	case info.IsDir():
		return "", fmt.Errorf("cannot start %s: it is a folder", path)
	case info.Mode()&0o111 == 0:
		return "", fmt.Errorf("cannot start %s: it is not executable (chmod +x)", path)
	}
	return path, nil
}

// Explain turns the error of an exec into words.
func Explain(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		if interpreter := findInterpreter(path); interpreter != "" {
			return fmt.Errorf("cannot start %s: its interpreter %s is missing", path, interpreter)
		}
		return fmt.Errorf("cannot start %s: its dynamic loader or working directory is missing", path)
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("cannot start %s: it is no program for this machine (a script needs '#!' in its first line)", path)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("cannot start %s: permission denied", path)
	}
	var failure *os.PathError
	if errors.As(err, &failure) {
		err = failure.Err
	}
	return fmt.Errorf("cannot start %s: %w", path, err)
}

// findInterpreter returns the interpreter that a script names, if it does not exist.
func findInterpreter(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	head := make([]byte, 256)
	count, _ := file.Read(head)
	line, _, _ := bytes.Cut(head[:count], []byte{'\n'})
	rest, script := bytes.CutPrefix(line, []byte("#!"))
	if !script {
		return ""
	}
	fields := strings.Fields(strings.TrimSpace(string(rest)))
	if len(fields) == 0 {
		return ""
	}
	if strings.HasSuffix(strings.TrimRight(string(line), " "), "\r") {
		return fields[0] + " (the script has Windows line ends)"
	}
	if _, err := os.Stat(fields[0]); err != nil {
		return fields[0]
	}
	return ""
}

// Get is the value of a variable; the last one counts.
func Get(environment []string, name string) string {
	for _, entry := range slices.Backward(environment) {
		if key, value, _ := strings.Cut(entry, "="); key == name {
			return value
		}
	}
	return ""
}

// Merge puts layers of NAME=value over each other; later ones win, the order of first appearance stays.
func Merge(layers ...[]string) []string {
	var merged []string
	places := make(map[string]int)
	for _, layer := range layers {
		for _, entry := range layer {
			name, _, found := strings.Cut(entry, "=")
			if !found || name == "" || strings.IndexByte(entry, 0) >= 0 {
				continue
			}
			if place, known := places[name]; known {
				merged[place] = entry
				continue
			}
			places[name] = len(merged)
			merged = append(merged, entry)
		}
	}
	return merged
}

// LeadPath sets PATH so that kestrel's own folder comes first, and fills in a default where there is none.
func LeadPath(environment []string) []string {
	searchPath := Get(environment, "PATH")
	switch {
	case searchPath == "":
		searchPath = contract.DefaultPath
	case searchPath == contract.BinFolder || strings.HasPrefix(searchPath, contract.BinFolder+":"):
		return environment
	}
	return Merge(environment, []string{"PATH=" + contract.BinFolder + ":" + searchPath})
}

// ReadEnvironmentFile reads /etc/environment as pam_env does: NAME=value lines, an optional "export", quotes around
// the value, comments. A file that is missing is empty.
func ReadEnvironmentFile(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var environment []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(strings.TrimPrefix(line, "export "))
		name, value, found := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" {
			continue
		}
		value = strings.TrimSpace(value)
		if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') {
			if end := strings.IndexByte(value[1:], value[0]); end >= 0 {
				value = value[1 : 1+end]
			}
		} else if comment := strings.Index(value, " #"); comment >= 0 {
			value = strings.TrimSpace(value[:comment])
		}
		environment = append(environment, name+"="+value)
	}
	return environment
}

// Identity is who a program runs as.
type Identity struct {
	Account    passwd.Account
	Credential *syscall.Credential // nil: stay who we are
}

// FindIdentity reads "user", "user:group", "uid" or "uid:gid" as Docker's USER has it. Root is the folder that holds
// /etc. With a group given, the supplementary groups of the user are left out, as there. More are supplementary, too.
func FindIdentity(root, spec string, more ...uint32) (Identity, error) {
	user, group, grouped := strings.Cut(spec, ":")
	account, err := passwd.Lookup(root, user)
	if err != nil {
		return Identity{}, err
	}
	if grouped && group != "" {
		if account.GID, err = passwd.LookupGroup(root, group); err != nil {
			return Identity{}, err
		}
		account.Groups = nil
	}
	account.Groups = append(account.Groups, more...)
	identity := Identity{Account: account}
	if os.Getuid() == 0 {
		identity.Credential = &syscall.Credential{Uid: account.UID, Gid: account.GID, Groups: account.Groups}
	} else if int(account.UID) != os.Getuid() && spec != "" {
		return Identity{}, fmt.Errorf("cannot become user %q: only root can", spec)
	}
	return identity, nil
}
