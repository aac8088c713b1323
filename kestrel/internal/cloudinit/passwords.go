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

// applyPasswords serves chpasswd in its old form (a list of "user:password") and its new one (users).
func (r *Runner) applyPasswords(_ context.Context, config fields) error {
	settings, ok := asFields(config["chpasswd"])
	if !ok {
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
	for _, item := range asList(settings.get("users")) {
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
	list := settings.get("list")
	if text, ok := list.(string); ok {
		list = nil
		lines := []any{}
		for line := range strings.Lines(text) {
			lines = append(lines, line)
		}
		list = lines
	}
	for _, item := range asList(list) {
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
