// SPDX-License-Identifier: Apache-2.0

// Package cloudinit applies a VM's user-data: by the image's own cloud-init where it has one, else by the agent.
//
// The agent knows the part of cloud-config that people use, with upstream's meaning: its stages run in upstream's
// order, most modules once per instance (a marker file remembers), some at every boot, and one module that fails
// does not keep the next from running. What is left undone is told, never skipped in silence.
package cloudinit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/volantvm/volant/kestrel/internal/contract"
	"github.com/volantvm/volant/kestrel/internal/reaper"
)

// Options of New. Paths that are empty are the guest's own.
type Options struct {
	Documents *contract.CloudInitDocuments // nil: nothing to do
	Reaper    *reaper.Reaper
	// Root is the folder that stands for /, in tests.
	Root string
	// StateFolder remembers what was done for which instance. Default /var/lib/kestrel/cloud-init.
	StateFolder string
	// Environment is what commands get besides PATH, HOME and INSTANCE_ID.
	Environment func() []string
	// SetHostname sets the kernel's name. Default sethostname(2).
	SetHostname func(name string) error
	// HasNetwork says whether packages can be fetched. Default: a route that is not loopback's.
	HasNetwork func() bool
	// Changed is called after every change of the state.
	Changed func()
	Logf    func(format string, arguments ...any)
}

// Runner applies one VM's documents.
type Runner struct {
	options Options
	data    *userData

	mutex   sync.Mutex
	state   contract.CloudInitState
	hasKeys bool
}

// New returns a runner that has done nothing yet.
func New(options Options) *Runner {
	if options.StateFolder == "" {
		options.StateFolder = filepath.Join(options.Root, "/var/lib/kestrel/cloud-init")
	}
	if options.Environment == nil {
		options.Environment = func() []string { return nil }
	}
	if options.SetHostname == nil {
		options.SetHostname = func(name string) error { return unix.Sethostname([]byte(name)) }
	}
	if options.HasNetwork == nil {
		options.HasNetwork = hasRoute
	}
	if options.Changed == nil {
		options.Changed = func() {}
	}
	if options.Logf == nil {
		options.Logf = func(string, ...any) {}
	}
	return &Runner{options: options, state: contract.CloudInitState{Status: "none"}}
}

// State is a copy of what became of user-data so far.
func (r *Runner) State() contract.CloudInitState {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	state := r.state
	state.Errors = slices.Clone(state.Errors)
	state.UnknownModules = slices.Clone(state.UnknownModules)
	return state
}

// HasKeys says whether user-data gave SSH keys to accounts, in this boot or an earlier one of the instance: then the
// guest's SSH server goes on the network.
func (r *Runner) HasKeys() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.hasKeys
}

func (r *Runner) update(change func(state *contract.CloudInitState)) {
	r.mutex.Lock()
	change(&r.state)
	r.mutex.Unlock()
	r.options.Changed()
}

// fail notes what went wrong in a module.
func (r *Runner) fail(module string, err error) {
	for _, line := range strings.Split(err.Error(), "\n") {
		text := module + ": " + line
		r.options.Logf("cloud-init: %s", text)
		r.update(func(state *contract.CloudInitState) { state.Errors = append(state.Errors, text) })
	}
}

func (r *Runner) unknown(names ...string) {
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	r.options.Logf("cloud-init: not known to this agent: %s", strings.Join(names, ", "))
	r.update(func(state *contract.CloudInitState) {
		state.UnknownModules = append(state.UnknownModules, names...)
	})
}

// Run applies the documents and returns when processes may start. What the image's cloud-init has left to do then,
// its final stage, goes on in the background until the context ends.
func (r *Runner) Run(ctx context.Context) {
	documents := r.options.Documents
	if documents == nil {
		return
	}
	document, err := base64.StdEncoding.DecodeString(documents.UserDataBase64)
	if err != nil {
		r.fail("user-data", errors.New("guest.json holds it in broken base64"))
		r.finish()
		return
	}
	if program := r.findCloudInit(); program != "" {
		r.update(func(state *contract.CloudInitState) { state.Status, state.By = "running", "cloud-init" })
		r.runNative(ctx, program, document)
		return
	}
	r.data = parseUserData(document)
	r.update(func(state *contract.CloudInitState) { state.Status, state.By = "running", "kestrel" })
	for _, problem := range r.data.problems {
		r.fail("kestrel", problem)
	}
	r.unknown(r.data.unknown...)
	if r.isDone(keysGiven) {
		r.noteKeys()
	}
	r.runModules(ctx)
	r.finish()
}

func (r *Runner) finish() {
	r.update(func(state *contract.CloudInitState) {
		state.Status = "done"
		if len(state.Errors) > 0 {
			state.Status = "error"
		}
	})
}

// frequency says when a module runs again.
type frequency int

const (
	perInstance frequency = iota
	always
)

// keysGiven marks an instance whose accounts got SSH keys.
const keysGiven = "keys-given"

// module is one step. keys are the parts of cloud-config that it serves; it runs if one of them is there.
type module struct {
	name  string
	keys  []string
	when  frequency
	apply func(r *Runner, ctx context.Context, config fields) error
}

// modules are in the order of upstream's stages: init, config, final.
var modules = []module{
	{"boothook", nil, always, (*Runner).runBoothooks},
	{"bootcmd", []string{"bootcmd"}, always, (*Runner).runBootcmd},
	{"write_files", []string{"write_files"}, perInstance, (*Runner).writeFiles},
	{"growpart", []string{"growpart", "resize_rootfs"}, always, (*Runner).growPartition},
	{"mounts", []string{"mounts", "swap"}, always, (*Runner).applyMounts},
	{"set_hostname", []string{"hostname", "fqdn"}, always, (*Runner).applyHostname},
	{"update_etc_hosts", []string{"manage_etc_hosts"}, always, (*Runner).applyHosts},
	{"users_groups", []string{"users", "groups"}, perInstance, (*Runner).applyAccounts},
	{"ssh", []string{"ssh_authorized_keys"}, perInstance, (*Runner).applyKeys},
	{"set_passwords", []string{"chpasswd"}, perInstance, (*Runner).applyPasswords},
	{"ntp", []string{"ntp"}, perInstance, (*Runner).applyNTP},
	{"timezone", []string{"timezone"}, perInstance, (*Runner).applyTimezone},
	{"packages", []string{"packages", "package_update", "package_upgrade"}, perInstance, (*Runner).installPackages},
	{"write_files_deferred", []string{"write_files"}, perInstance, (*Runner).writeDeferredFiles},
	{"scripts_user", nil, perInstance, (*Runner).runScripts},
	{"scripts_per_boot", nil, always, (*Runner).runBootScripts},
	{"runcmd", []string{"runcmd"}, perInstance, (*Runner).runRuncmd},
	{"final_message", []string{"final_message"}, always, (*Runner).sayFinalMessage},
}

// Keys that ask for nothing here: how parts are merged, and what is so in this guest anyway.
var silentKeys = []string{"merge_how", "merge_type", "preserve_hostname", "prefer_fqdn_over_hostname", "create_hostname_file"}

// Keys that ask for nothing where they are false: the agent's SSH server takes no passwords and lets root in.
var keysThatAreFalse = []string{"ssh_pwauth", "disable_root"}

func (r *Runner) runModules(ctx context.Context) {
	config := fields(r.data.config)
	known := slices.Clone(silentKeys)
	for _, module := range modules {
		known = append(known, module.keys...)
	}
	var unknown []string
	for key, value := range config {
		isSo := slices.Contains(keysThatAreFalse, key) && !asBool(value, true)
		if !isSo && !slices.Contains(known, key) {
			unknown = append(unknown, key)
		}
	}
	r.unknown(unknown...)
	for _, module := range modules {
		wanted := len(module.keys) == 0 || slices.ContainsFunc(module.keys, func(key string) bool {
			_, there := config[key]
			return there
		})
		if !wanted || (module.when == perInstance && r.isDone(module.name)) {
			continue
		}
		if ctx.Err() != nil {
			r.fail(module.name, errors.New("the guest is stopping"))
			return
		}
		if err := r.apply(ctx, module, config); err != nil {
			r.fail(module.name, err)
		}
		if module.when == perInstance {
			r.markDone(module.name)
		}
	}
}

// apply turns a panic, which a document of an unforeseen shape could cause, into the module's failure.
func (r *Runner) apply(ctx context.Context, module module, config fields) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("the agent failed: %v", problem)
		}
	}()
	return module.apply(r, ctx, config)
}

func (r *Runner) instanceFolder() string {
	id := strings.Map(func(char rune) rune {
		if char == '/' || char == 0 {
			return '_'
		}
		return char
	}, r.options.Documents.InstanceID)
	return filepath.Join(r.options.StateFolder, "instance-"+id)
}

func (r *Runner) isDone(name string) bool {
	_, err := os.Stat(filepath.Join(r.instanceFolder(), name+".done"))
	return err == nil
}

// markDone also marks what failed: upstream does not repeat it at the next boot either.
func (r *Runner) markDone(name string) {
	folder := r.instanceFolder()
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".done"), nil, 0o600)
	}
	if err != nil {
		r.options.Logf("cloud-init: %s will run again at the next boot: %v", name, err)
	}
}

func (r *Runner) path(path string) string { return filepath.Join(r.options.Root, path) }

func (r *Runner) noteKeys() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.hasKeys = true
}
