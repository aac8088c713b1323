// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/volantvm/volant/kestrel/internal/passwd"
)

const (
	homeMode    = 0o750
	sudoersPath = "/etc/sudoers.d/90-cloud-init-users"
	sudoersMode = 0o440
	secondsADay = 24 * 60 * 60
)

// What useradd accepts, without which a colon or newline of a name would write a row of its own.
var accountName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}\$?$`) })

func today() int { return int(time.Now().Unix() / secondsADay) }

// applyAccounts creates groups, then users. Who exists already is not created again, but gets keys, sudo rules and
// passwords, as upstream does it.
func (r *Runner) applyAccounts(_ context.Context, config fields) error {
	a, err := r.openAccounts()
	if err != nil {
		return err
	}
	var problems []error
	problem := func(format string, arguments ...any) {
		problems = append(problems, fmt.Errorf(format, arguments...))
	}
	if err := addGroups(a, config["groups"]); err != nil {
		problem("groups: %w", err)
	}
	var later []func() error // what needs the tables written
	for index, item := range userList(config["users"]) {
		user, ok := asFields(item)
		if name, isText := item.(string); isText {
			if name == "default" {
				continue // root, who is there
			}
			user, ok = fields{"name": name}, true
		}
		if !ok {
			problem("user %d is neither a name nor a mapping", index+1)
			continue
		}
		name := user.text("name")
		if !accountName().MatchString(name) {
			problem("user %d: %q is no name for a user", index+1, name)
			continue
		}
		if err := r.addUser(a, name, user); err != nil {
			problem("user %s: %w", name, err)
			continue
		}
		for _, key := range []string{"ssh_import_id", "ssh_redirect_user", "snapuser", "doas"} {
			if user.has(key) {
				problem("user %s: %s is not supported by this agent", name, key)
			}
		}
		later = append(later, func() error {
			keys, err := asKeys(user.get("ssh_authorized_keys"))
			if err == nil && len(keys) > 0 {
				err = r.authorizeKeys(name, keys)
			}
			if err == nil {
				err = r.addSudo(name, user.get("sudo"))
			}
			if err != nil {
				return fmt.Errorf("user %s: %w", name, err)
			}
			return nil
		})
	}
	if err := a.save(); err != nil {
		return errors.Join(append(problems, fmt.Errorf("cannot write accounts: %w", err))...)
	}
	for _, finish := range later {
		if err := finish(); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// userList is the list of users in any of upstream's spellings.
func userList(value any) []any {
	switch value := value.(type) {
	case string:
		var list []any
		for name := range strings.SplitSeq(value, ",") {
			list = append(list, strings.TrimSpace(name))
		}
		return list
	case map[string]any:
		var list []any
		for name, settings := range value {
			user := map[string]any{"name": name}
			if mapping, ok := settings.(map[string]any); ok {
				for key, setting := range mapping {
					user[key] = setting
				}
			}
			list = append(list, user)
		}
		return list
	}
	return asList(value)
}

// addGroups reads a list of names, of {name: [members]}, or one mapping of these.
func addGroups(a *accounts, value any) error {
	if mapping, ok := value.(map[string]any); ok {
		value = []any{mapping}
	}
	if text, ok := value.(string); ok {
		names, _ := asTexts(text)
		value = nil
		list := make([]any, 0, len(names))
		for _, name := range names {
			list = append(list, name)
		}
		value = list
	}
	var problems []error
	add := func(name string, members []string) {
		if err := ensureGroup(a, name); err != nil {
			problems = append(problems, err)
			return
		}
		for _, member := range members {
			if _, index := a.passwd.find(member); index < 0 {
				problems = append(problems, fmt.Errorf("%s: there is no user %s yet", name, member))
			} else if err := a.addMember(name, member); err != nil {
				problems = append(problems, err)
			}
		}
	}
	for _, item := range asList(value) {
		if mapping, ok := item.(map[string]any); ok {
			for name, members := range mapping {
				names, err := asTexts(members)
				if err != nil {
					problems = append(problems, err)
				}
				add(name, names)
			}
			continue
		}
		name, err := asText(item)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		add(name, nil)
	}
	return errors.Join(problems...)
}

func ensureGroup(a *accounts, name string) error {
	if _, index := a.group.find(name); index >= 0 {
		return nil
	}
	if !accountName().MatchString(name) {
		return fmt.Errorf("%q is no name for a group", name)
	}
	number, err := a.freeNumber(false)
	if err != nil {
		return err
	}
	a.addGroup(name, number)
	return nil
}

func (r *Runner) addUser(a *accounts, name string, user fields) error {
	if _, index := a.passwd.find(name); index < 0 {
		if err := r.createUser(a, name, user); err != nil {
			return err
		}
	}
	groups, err := groupNames(user.get("groups"))
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	for _, group := range groups {
		if err := ensureGroup(a, group); err != nil {
			return err
		}
		if err := a.addMember(group, name); err != nil {
			return err
		}
	}
	for _, key := range []string{"hashed_passwd", "passwd"} {
		if hash := user.text(key); hash != "" {
			if strings.ContainsAny(hash, ":\n") {
				return fmt.Errorf("%s is no hash", key)
			}
			a.setPassword(name, hash, today(), false)
		}
	}
	if plain := user.text("plain_text_passwd"); plain != "" {
		hash, err := hashPassword(plain)
		if err != nil {
			return err
		}
		a.setPassword(name, hash, today(), false)
	}
	if asBool(user.get("lock_passwd"), true) {
		a.lock(name, today())
	}
	return nil
}

// groupNames reads "a, b", a list, or a mapping whose keys are the names.
func groupNames(value any) ([]string, error) {
	if mapping, ok := value.(map[string]any); ok {
		names := make([]string, 0, len(mapping))
		for name := range mapping {
			names = append(names, name)
		}
		slices.Sort(names)
		return names, nil
	}
	return asTexts(value)
}

func (r *Runner) createUser(a *accounts, name string, user fields) error {
	system := asBool(user.get("system"), false)
	number, err := a.freeNumber(system)
	if err != nil {
		return err
	}
	if text := user.text("uid"); text != "" {
		if number, err = strconv.Atoi(text); err != nil || number < 0 {
			return fmt.Errorf("uid %q is no number", text)
		}
		if a.passwd.numbers()[number] {
			return fmt.Errorf("uid %d belongs to somebody else", number)
		}
	}
	group := number
	switch primary := user.text("primary_group"); {
	case primary != "":
		if err := ensureGroup(a, primary); err != nil {
			return err
		}
		row, _ := a.group.find(primary)
		if group, err = strconv.Atoi(row[2]); err != nil {
			return fmt.Errorf("group %s has no number", primary)
		}
	case asBool(user.get("no_user_group"), false):
		group = 100 // "users", useradd's default
	default:
		if row, index := a.group.find(name); index >= 0 {
			if group, err = strconv.Atoi(row[2]); err != nil {
				return fmt.Errorf("group %s has no number", name)
			}
			break
		}
		if a.group.numbers()[group] {
			if group, err = a.freeNumber(system); err != nil {
				return err
			}
		}
		a.addGroup(name, group)
	}
	home := user.text("homedir")
	if home == "" {
		home = "/home/" + name
	}
	shell := user.text("shell")
	if shell == "" {
		shell = r.defaultShell()
	}
	gecos := user.text("gecos")
	for _, text := range []string{home, shell, gecos} {
		if strings.ContainsAny(text, ":\n") {
			return fmt.Errorf("%q would break /etc/passwd", text)
		}
	}
	a.passwd.set([]string{name, "x", strconv.Itoa(number), strconv.Itoa(group), gecos, home, shell})
	a.setPassword(name, "!", today(), false)
	if !system && !asBool(user.get("no_create_home"), false) {
		return r.makeHome(home, number, group)
	}
	return nil
}

// defaultShell is what useradd of this image would give.
func (r *Runner) defaultShell() string {
	content, _ := os.ReadFile(r.path("/etc/default/useradd"))
	for line := range strings.Lines(string(content)) {
		if shell, ok := strings.CutPrefix(strings.TrimSpace(line), "SHELL="); ok && shell != "" {
			return shell
		}
	}
	return shellPath
}

// makeHome makes a home folder with the image's skeleton in it, unless it is there.
func (r *Runner) makeHome(home string, uid, gid int) error {
	path := r.path(home)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(path, homeMode); err != nil {
		return err
	}
	if err := os.CopyFS(path, os.DirFS(r.path("/etc/skel"))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.options.Logf("cloud-init: cannot copy /etc/skel to %s: %v", home, err)
	}
	if err := os.Chmod(path, homeMode); err != nil {
		return err
	}
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// addSudo writes the rules where upstream writes them.
func (r *Runner) addSudo(name string, value any) error {
	if text, ok := value.(string); ok {
		value = []any{text} // a rule may hold commas
	}
	if _, isBool := value.(bool); isBool || value == nil {
		return nil
	}
	rules, err := asTexts(value)
	if err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	var lines strings.Builder
	fmt.Fprintf(&lines, "\n# User rules for %s\n", name)
	count := 0
	for _, rule := range rules {
		if strings.ContainsAny(rule, "\n") {
			return errors.New("sudo: a rule is one line")
		}
		if rule = strings.TrimSpace(rule); rule != "" && !strings.EqualFold(rule, "false") {
			fmt.Fprintf(&lines, "%s %s\n", name, rule)
			count++
		}
	}
	if count == 0 {
		return nil
	}
	path := r.path(sudoersPath)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sudo: %w", err)
	}
	if bytes.Contains(content, []byte(lines.String())) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	content = append(content, lines.String()...)
	if err := os.WriteFile(path, content, sudoersMode); err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	if err := os.Chmod(path, sudoersMode); err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	return r.includeSudoers()
}

// includeSudoers makes sudo read the folder, which an image's own sudoers normally does already.
func (r *Runner) includeSudoers() error {
	path := r.path("/etc/sudoers")
	content, err := os.ReadFile(path)
	if err != nil { // no sudo in this image (yet): the package brings its own
		return nil
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "#includedir /etc/sudoers.d" || line == "@includedir /etc/sudoers.d" {
			return nil
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("sudo: %w", err)
	}
	_, err = file.WriteString("\n#includedir /etc/sudoers.d\n")
	return errors.Join(err, file.Close())
}

// applyKeys gives the document's own keys to the default user, who is root here.
func (r *Runner) applyKeys(_ context.Context, config fields) error {
	keys, err := asKeys(config["ssh_authorized_keys"])
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return nil
	}
	return r.authorizeKeys("root", keys)
}

// asKeys is a list of keys: a single text is one key, commas and all, or one a line.
func asKeys(value any) ([]string, error) {
	if text, ok := value.(string); ok {
		value = nil
		var list []any
		for line := range strings.Lines(text) {
			list = append(list, line)
		}
		value = list
	}
	texts, err := asTexts(value)
	var keys []string
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" {
			keys = append(keys, text)
		}
	}
	return keys, err
}

// authorizeKeys adds keys to an account's authorized_keys, each once.
func (r *Runner) authorizeKeys(name string, keys []string) error {
	account, err := passwd.Lookup(r.options.Root, name)
	if err != nil {
		return err
	}
	folder := r.path(filepath.Join(account.Home, ".ssh"))
	path := filepath.Join(folder, "authorized_keys")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot add SSH keys: %w", err)
	}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot add SSH keys: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	for _, key := range keys {
		if !slices.Contains(lines, key) {
			lines = append(lines, key)
		}
	}
	text := strings.TrimLeft(strings.Join(lines, "\n"), "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot add SSH keys: %w", err)
	}
	for _, made := range []string{folder, path} {
		if err := os.Chown(made, int(account.UID), int(account.GID)); err != nil {
			return fmt.Errorf("cannot add SSH keys: %w", err)
		}
	}
	r.markDone(keysGiven)
	r.noteKeys()
	return nil
}
