// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	homeMode    = 0o750
	secondsADay = 24 * 60 * 60
	// defaultUser is who "default" stands for, unless the key user names another.
	defaultUser = "root"
)

// What useradd accepts, without which a colon or newline of a name would write a row of its own.
var accountName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}\$?$`) })

func today() int { return int(time.Now().Unix() / secondsADay) }

// userEntry is one user with the settings of all its entries.
type userEntry struct {
	name      string
	settings  fields
	isDefault bool
}

// applyAccounts creates groups, then users, each as upstream does it with groupadd and useradd. Who exists already is
// not created again, but gets groups, passwords, keys and sudo rules.
func (r *Runner) applyAccounts(_ context.Context, config fields) error {
	a, err := r.openAccounts()
	if err != nil {
		return err
	}
	var problems []error
	problems = append(problems, inContext("groups", addGroups(a, config["groups"])))
	users, err := listUsers(config)
	if err != nil {
		problems = append(problems, err)
	}
	var created []userEntry
	for _, user := range users {
		done, err := r.addUser(a, user)
		problems = append(problems, inContext("user "+user.name, err))
		if done {
			created = append(created, user)
		}
	}
	if err := a.save(); err != nil {
		return errors.Join(append(problems, fmt.Errorf("cannot write accounts: %w", err))...)
	}
	for _, user := range created { // what needs the tables written
		problems = append(problems, inContext("user "+user.name, r.equipUser(user)))
	}
	return errors.Join(problems...)
}

// equipUser gives keys and sudo rules.
func (r *Runner) equipUser(user userEntry) error {
	keys, err := asKeys(user.settings.get("ssh_authorized_keys"))
	if err == nil && len(keys) > 0 {
		err = r.authorizeKeys(user.name, keys)
	}
	if err == nil {
		err = r.addSudo(user.name, user.settings.get("sudo"))
	}
	return err
}

// defaultUserName is root, or whom the key user names.
func defaultUserName(config fields) string {
	if name, ok := config["user"].(string); ok && name != "" {
		return name
	}
	if settings, ok := asFields(config["user"]); ok {
		if name := settings.text("name"); name != "" {
			return name
		}
	}
	return defaultUser
}

// listUsers brings upstream's spellings of users into one: entries of the same name become one, in which the first
// that says something counts, and "default" is who the key user describes.
func listUsers(config fields) ([]userEntry, error) {
	var problems []error
	items := userItems(config["users"])
	if own, ok := asFields(config["user"]); ok {
		own = maps.Clone(own)
		own["name"] = "default"
		items = append(items, map[string]any(own))
	} else if name, ok := config["user"].(string); ok && name != "" {
		items = append(items, "default")
	}
	var users []userEntry
	for index, item := range items {
		settings, ok := asFields(item)
		if name, isText := item.(string); isText {
			settings, ok = fields{"name": name}, true
		}
		if !ok {
			problems = append(problems, fmt.Errorf("user %d is neither a name nor a mapping", index+1))
			continue
		}
		name := settings.text("name")
		isDefault := name == "" || name == "default"
		if isDefault {
			name = defaultUserName(config)
		}
		if !accountName().MatchString(name) {
			problems = append(problems, fmt.Errorf("user %d: %q is no name for a user", index+1, name))
			continue
		}
		users = addEntry(users, userEntry{name, settings, isDefault})
	}
	return users, errors.Join(problems...)
}

func addEntry(users []userEntry, user userEntry) []userEntry {
	for index, earlier := range users {
		if earlier.name == user.name {
			merged := maps.Clone(user.settings)
			maps.Copy(merged, earlier.settings)
			users[index].settings = merged
			users[index].isDefault = earlier.isDefault || user.isDefault
			return users
		}
	}
	return append(users, user)
}

// userItems is the list of users in any of upstream's spellings. A mapping has no order; that of names is as good.
func userItems(value any) []any {
	switch value := value.(type) {
	case string:
		var list []any
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				list = append(list, name)
			}
		}
		return list
	case map[string]any:
		var list []any
		for _, name := range slices.Sorted(maps.Keys(value)) {
			user := map[string]any{"name": name}
			if mapping, ok := value[name].(map[string]any); ok {
				maps.Copy(user, mapping)
				user["name"] = name
			} else if !asBool(value[name], false) {
				continue
			}
			list = append(list, user)
		}
		return list
	}
	var list []any
	for _, item := range asList(value) {
		if names, ok := item.([]any); ok {
			list = append(list, names...)
		} else {
			list = append(list, item)
		}
	}
	return list
}

// addUser says whether the user is there now; there may be an error all the same.
func (r *Runner) addUser(a *accounts, user userEntry) (done bool, err error) {
	if err := checkHome(user.settings); err != nil {
		return false, err
	}
	groups, err := groupNames(user.settings.get("groups"))
	if err != nil {
		return false, fmt.Errorf("groups: %w", err)
	}
	_, index := a.passwd.find(user.name)
	exists := index >= 0
	primary := user.settings.text("primary_group")
	needed := groups
	if primary != "" && !exists {
		needed = append(slices.Clone(groups), primary)
	}
	if err := needGroups(a, needed, asBool(user.settings.get("create_groups"), true)); err != nil {
		return false, err
	}
	var problems []error
	if exists {
		problems = append(problems, a.checkExisting(user))
	} else if err := r.createUser(a, user.name, user.settings); err != nil {
		return false, err
	}
	for _, group := range groups {
		problems = append(problems, a.addMember(group, user.name))
	}
	problems = append(problems, a.setUserPassword(user, exists))
	return true, errors.Join(problems...)
}

// checkHome refuses what upstream refuses: keys for somebody without a home.
func checkHome(user fields) error {
	for _, without := range []string{"no_create_home", "system"} {
		for _, with := range []string{"ssh_authorized_keys", "ssh_import_id", "ssh_redirect_user"} {
			if asBool(user.get(without), false) && !isEmpty(user.get(with)) {
				return fmt.Errorf("it is not created: %s needs a home, and %s gives none", with, without)
			}
		}
	}
	return nil
}

// checkExisting tells what of an existing user is not as the document wants it: like useradd, and so upstream, the agent
// changes nobody who is there.
func (a *accounts) checkExisting(user userEntry) error {
	row, _ := a.passwd.find(user.name)
	var kept []string
	for key, current := range map[string]string{"uid": row[2], "gecos": row[4], "homedir": row[5], "shell": row[6]} {
		if text := user.settings.text(key); text != "" && text != current {
			kept = append(kept, key)
		}
	}
	for _, key := range []string{"primary_group", "expiredate", "inactive", "passwd"} {
		if user.settings.text(key) != "" {
			kept = append(kept, key)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	slices.Sort(kept)
	return fmt.Errorf("it exists already, so %s is not applied", strings.Join(kept, ", "))
}

// createUser writes what useradd would.
func (r *Runner) createUser(a *accounts, name string, user fields) error {
	system := asBool(user.get("system"), false)
	number, err := a.chooseUserNumber(user.text("uid"), system)
	if err != nil {
		return err
	}
	group, err := a.choosePrimaryGroup(name, user, number, system)
	if err != nil {
		return err
	}
	home, shell, gecos := user.text("homedir"), user.text("shell"), user.text("gecos")
	if home == "" {
		home = filepath.Join(r.useraddDefault("HOME", "/home"), name)
	}
	if shell == "" {
		shell = r.useraddDefault("SHELL", shellPath)
	}
	for _, text := range []string{home, shell, gecos} {
		if strings.ContainsAny(text, ":\n") {
			return fmt.Errorf("%q would break /etc/passwd", text)
		}
	}
	expires, err := readDay(user.text("expiredate"))
	if err != nil {
		return fmt.Errorf("expiredate: %w", err)
	}
	inactive := user.text("inactive")
	if days, err := strconv.Atoi(inactive); inactive != "" && (err != nil || days < -1) {
		return fmt.Errorf("inactive: %q is no number of days", inactive)
	}
	if inactive == "-1" {
		inactive = "" // useradd's word for never
	}
	a.passwd.set([]string{name, "x", strconv.Itoa(number), strconv.Itoa(group), gecos, home, shell})
	if _, index := a.group.find(name); index < 0 && user.text("primary_group") == "" && !asBool(user.get("no_user_group"), false) {
		a.addGroup(name, group)
	}
	a.setPassword(name, "!", today(), false)
	a.setExpiry(name, inactive, expires, system)
	if !system && !asBool(user.get("no_create_home"), false) {
		return r.makeHome(home, number, group)
	}
	return nil
}

// readDay reads a date as useradd does, and gives shadow's days since 1970.
func readDay(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if _, err := strconv.ParseUint(text, 10, 31); err == nil {
		return text, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil || day.Unix() < 0 {
		return "", fmt.Errorf("%q is no date like 2027-01-31", text)
	}
	return strconv.FormatInt(day.Unix()/secondsADay, 10), nil
}

// useraddDefault is what useradd of this image would take.
func (r *Runner) useraddDefault(name, fallback string) string {
	content, _ := os.ReadFile(r.path("/etc/default/useradd"))
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok && value != "" {
			return value
		}
	}
	return fallback
}

// makeHome makes a home folder with the image's skeleton in it, unless it is there.
func (r *Runner) makeHome(home string, uid, gid int) error {
	path := r.path(home)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), newFolderMode); err != nil {
		return err
	}
	if err := os.Mkdir(path, homeMode); err != nil {
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
