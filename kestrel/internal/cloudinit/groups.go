// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// addGroups reads a list of names, of {name: [members]}, or one mapping of these.
func addGroups(a *accounts, value any) error {
	if text, ok := value.(string); ok {
		names, _ := asTexts(text)
		list := make([]any, 0, len(names))
		for _, name := range names {
			list = append(list, name)
		}
		value = list
	}
	var problems []error
	for _, item := range asList(value) {
		if mapping, ok := item.(map[string]any); ok {
			for _, name := range slices.Sorted(maps.Keys(mapping)) {
				problems = append(problems, addGroup(a, name, mapping[name]))
			}
			continue
		}
		name, err := asText(item)
		if err == nil {
			err = addGroup(a, name, nil)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// addGroup makes a group unless it is there, and puts those members in that exist.
func addGroup(a *accounts, name string, members any) error {
	if err := ensureGroup(a, name); err != nil {
		return err
	}
	names, err := asTexts(members)
	problems := []error{err}
	for _, member := range names {
		if _, index := a.passwd.find(member); index < 0 {
			problems = append(problems, fmt.Errorf("%s: there is no user %s yet", name, member))
		} else {
			problems = append(problems, a.addMember(name, member))
		}
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
	number, err := a.freeGroup(false)
	if err != nil {
		return err
	}
	a.addGroup(name, number)
	return nil
}

// needGroups makes what groups are missing, or refuses as useradd would.
func needGroups(a *accounts, names []string, create bool) error {
	for _, name := range names {
		if create {
			if err := ensureGroup(a, name); err != nil {
				return err
			}
		} else if _, index := a.group.find(name); index < 0 {
			return fmt.Errorf("it is not created: there is no group %s, and create_groups is false", name)
		}
	}
	return nil
}

// groupNames reads "a, b", a list, or a mapping whose keys are the names.
func groupNames(value any) ([]string, error) {
	if mapping, ok := value.(map[string]any); ok {
		return slices.Sorted(maps.Keys(mapping)), nil
	}
	return asTexts(value)
}

// choosePrimaryGroup gives the number of a new user's own group, which for a group that is not there yet is the user's
// own number if that is free.
func (a *accounts) choosePrimaryGroup(name string, user fields, number int, system bool) (int, error) {
	wanted := user.text("primary_group")
	if wanted == "" && asBool(user.get("no_user_group"), false) {
		return 100, nil // "users", useradd's default
	}
	if wanted == "" {
		wanted = name
	}
	if row, index := a.group.find(wanted); index >= 0 {
		group, err := strconv.Atoi(row[2])
		if err != nil {
			return 0, fmt.Errorf("group %s has no number", wanted)
		}
		return group, nil
	}
	if !a.group.numbers()[number] {
		return number, nil
	}
	return a.freeGroup(system)
}
