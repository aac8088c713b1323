// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/GehirnInc/crypt/sha512_crypt"
)

const passwordSize = 20

var hashedPassword = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\$(1|2a|2y|5|6|y)\$.+\$.+$`) })

// applyPasswords serves chpasswd in its old form (a list of "user:password") and its new one (users), and password,
// which is the default user's where chpasswd names nobody.
func (r *Runner) applyPasswords(_ context.Context, config fields) error {
	settings, ok := asFields(config["chpasswd"])
	if !ok && config["chpasswd"] != nil {
		return fmt.Errorf("it is a mapping, not %T", config["chpasswd"])
	}
	a, err := r.openAccounts()
	if err != nil {
		return err
	}
	expire := asBool(settings.get("expire"), true)
	var problems []error
	set := func(user, password, kind string) {
		if err := r.setPassword(a, user, password, kind, expire); err != nil {
			problems = append(problems, fmt.Errorf("user %s: %w", user, err))
		}
	}
	users, lines := asList(settings.get("users")), passwordLines(settings.get("list"))
	if password := config.text("password"); password != "" && len(users)+len(lines) == 0 {
		lines = []any{defaultUserName(config) + ":" + password}
	}
	for _, item := range users {
		user, ok := asFields(item)
		if !ok {
			problems = append(problems, errors.New("an entry of users is not a mapping"))
			continue
		}
		kind := user.text("type")
		if kind == "" {
			kind = "hash"
		}
		set(user.text("name"), user.text("password"), kind)
	}
	for _, item := range lines {
		line, err := asText(item)
		user, password, found := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case err != nil || (!found && line != ""):
			problems = append(problems, errors.New("an entry of list is not user:password"))
		case !found:
		case password == "R" || password == "RANDOM":
			set(user, "", "RANDOM")
		case hashedPassword().MatchString(password):
			set(user, password, "hash")
		default:
			set(user, password, "text")
		}
	}
	if err := a.save(); err != nil {
		problems = append(problems, fmt.Errorf("cannot write accounts: %w", err))
	}
	return errors.Join(problems...)
}

// passwordLines is a list, or a text of one line for each.
func passwordLines(value any) []any {
	text, ok := value.(string)
	if !ok {
		return asList(value)
	}
	var lines []any
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimRight(line, "\n"))
	}
	return lines
}

func (r *Runner) setPassword(a *accounts, user, password, kind string, expire bool) error {
	if _, index := a.passwd.find(user); index < 0 {
		return errors.New("there is no such user")
	}
	var err error
	switch kind {
	case "hash":
		if password == "" || strings.ContainsAny(password, ":\n") {
			return errors.New("password is no hash")
		}
	case "text":
		password, err = hashPassword(password)
	case "RANDOM":
		plain := rand.Text()[:passwordSize]
		r.options.Logf("cloud-init: set_passwords: the random password of %s is %s", user, plain)
		password, err = hashPassword(plain)
	default:
		return fmt.Errorf("type %q is not hash, text or RANDOM", kind)
	}
	if err != nil {
		return err
	}
	a.setPassword(user, password, today(), expire)
	return nil
}

// hashPassword makes the hash that every C library of the last fifteen years knows: SHA-512 crypt.
func hashPassword(plain string) (string, error) {
	hash, err := sha512_crypt.New().Generate([]byte(plain), []byte("$6$"+rand.Text()[:16]))
	if err != nil {
		return "", fmt.Errorf("cannot hash the password: %w", err)
	}
	return hash, nil
}

// setUserPassword serves the password of an entry of users as upstream's create_user does: whoever is not told to be
// open is locked, and a password of old is unlocked where it is asked for.
func (a *accounts) setUserPassword(user userEntry, exists bool) error {
	given, blank := false, false
	keys := []string{"plain_text_passwd", "hashed_passwd"}
	if !exists {
		keys = []string{"passwd", "plain_text_passwd", "hashed_passwd"}
	}
	for _, key := range keys {
		if !user.settings.has(key) {
			continue
		}
		given = true
		text, err := asText(user.settings.get(key))
		if err == nil && strings.ContainsAny(text, ":\n") && key != "plain_text_passwd" {
			err = errors.New("it is no hash")
		}
		if blank = text == ""; err == nil && !blank {
			hash := text
			if key == "plain_text_passwd" {
				hash, err = hashPassword(text)
			}
			if err == nil {
				a.setPassword(user.name, hash, today(), false)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	locked := asBool(user.settings.get("lock_passwd"), !user.isDefault || user.name != defaultUser)
	if locked {
		a.lock(user.name, today())
		return nil
	}
	row, index := a.shadow.find(user.name)
	hasPassword := exists && index >= 0 && strings.TrimLeft(row[1], "!*") != ""
	switch {
	case given && blank && !hasPassword:
		a.setPassword(user.name, "", today(), false)
	case given || hasPassword:
		a.unlock(user.name)
	case user.settings.has("lock_passwd"):
		return errors.New("lock_passwd is false but there is no password: it stays locked")
	}
	return nil
}
