// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// numberRange is where new ids come from.
type numberRange struct{ first, last int }

// numberRanges are those of login.defs(5).
type numberRanges struct{ users, systemUsers, groups, systemGroups numberRange }

// readRanges reads login.defs; what it leaves out is as useradd has it.
func readRanges(text string) numberRanges {
	values := make(map[string]int)
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if number, err := strconv.ParseUint(words[1], 0, 31); err == nil {
			values[words[0]] = int(number)
		}
	}
	read := func(prefix string, first, last int) numberRange {
		if value, ok := values[prefix+"_MIN"]; ok {
			first = value
		}
		if value, ok := values[prefix+"_MAX"]; ok {
			last = value
		}
		return numberRange{first, last}
	}
	ranges := numberRanges{users: read("UID", 1000, 60000), groups: read("GID", 1000, 60000)}
	ranges.systemUsers = read("SYS_UID", 101, ranges.users.first-1)
	ranges.systemGroups = read("SYS_GID", 101, ranges.groups.first-1)
	return ranges
}

// chooseUserNumber is the number that was asked for, or a free one. Groups do not count: a group that has a user's
// number keeps it from no user.
func (a *accounts) chooseUserNumber(wanted string, system bool) (int, error) {
	used := a.passwd.numbers()
	if wanted != "" {
		number, err := strconv.ParseUint(wanted, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("uid %q is no number", wanted)
		}
		if used[int(number)] {
			return 0, fmt.Errorf("uid %d belongs to somebody else", number)
		}
		return int(number), nil
	}
	if system {
		return lowestBelow(used, a.numbers.systemUsers)
	}
	return highestAbove(used, a.numbers.users)
}

func (a *accounts) freeGroup(system bool) (int, error) {
	if system {
		return lowestBelow(a.group.numbers(), a.numbers.systemGroups)
	}
	return highestAbove(a.group.numbers(), a.numbers.groups)
}

var errNoNumber = errors.New("no number is free")

// highestAbove is the number above all in use, or where there is none the lowest that is free, as useradd chooses.
func highestAbove(used map[int]bool, within numberRange) (int, error) {
	next := within.first
	for number := range used {
		if number >= next && number <= within.last {
			next = number + 1
		}
	}
	if next <= within.last {
		return next, nil
	}
	for number := within.first; number <= within.last; number++ {
		if !used[number] {
			return number, nil
		}
	}
	return 0, errNoNumber
}

// lowestBelow is the number below all in use: system accounts are counted downwards.
func lowestBelow(used map[int]bool, within numberRange) (int, error) {
	next := within.last
	for number := range used {
		if number <= next && number >= within.first {
			next = number - 1
		}
	}
	if next >= within.first {
		return next, nil
	}
	for number := within.last; number >= within.first; number-- {
		if !used[number] {
			return number, nil
		}
	}
	return 0, errNoNumber
}
