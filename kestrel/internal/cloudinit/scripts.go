// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// runcmdName is the name that runcmd's script has among those of the user.
const runcmdName = "runcmd"

func (r *Runner) runBoothooks(ctx context.Context, _ fields) error {
	return r.runAll(ctx, r.data.boothooks)
}

func (r *Runner) runOnceScripts(ctx context.Context, _ fields) error {
	return r.runAll(ctx, r.scriptsOf(scriptPerOnce))
}

func (r *Runner) runBootScripts(ctx context.Context, _ fields) error {
	return r.runAll(ctx, r.scriptsOf(scriptPerBoot))
}

func (r *Runner) runInstanceScripts(ctx context.Context, _ fields) error {
	return r.runAll(ctx, r.scriptsOf(scriptPerInstance))
}

// runUserScripts runs the scripts of the document and runcmd, which to upstream is one more file in their folder: what
// it is called decides when its turn comes.
func (r *Runner) runUserScripts(ctx context.Context, config fields) error {
	scripts := r.scriptsOf(scriptUser)
	before := slices.DeleteFunc(slices.Clone(scripts), func(script script) bool { return script.name >= runcmdName })
	problems := []error{r.runAll(ctx, before)}
	if value, ok := config["runcmd"]; ok {
		if err := r.runCommands(ctx, "runcmd", value); err != nil {
			r.fail("runcmd", err)
		}
	}
	return errors.Join(append(problems, r.runAll(ctx, scripts[len(before):]))...)
}

// scriptsOf are the scripts of a kind in the order in which they run. Of two with one name the later counts.
func (r *Runner) scriptsOf(kind scriptKind) []script {
	var found []script
	for _, next := range r.data.scripts {
		if next.kind != kind {
			continue
		}
		if index := slices.IndexFunc(found, func(other script) bool { return other.name == next.name }); index >= 0 {
			found[index] = next
		} else {
			found = append(found, next)
		}
	}
	slices.SortStableFunc(found, func(a, b script) int { return cmp.Compare(a.name, b.name) })
	return found
}

func (r *Runner) runAll(ctx context.Context, scripts []script) error {
	var problems []error
	for _, script := range scripts {
		if err := r.runScript(ctx, script.name, script.content); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", script.name, err))
		}
	}
	return errors.Join(problems...)
}
