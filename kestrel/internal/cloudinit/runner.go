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
	// RunProgram runs one program as root and logs what it prints under a name. Default: the reaper starts it.
	RunProgram func(ctx context.Context, name string, arguments []string, extra ...string) error
	// Mount and SwapOn use a device. Default: the image's mount(8) or mount(2), swapon(2).
	Mount  func(ctx context.Context, device, target, fstype, options string) error
	SwapOn func(path string) error
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
		options.StateFolder = filepath.Join(options.Root, defaultStateFolder)
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
	if options.SwapOn == nil {
		options.SwapOn = swapOn
	}
	runner := &Runner{options: options, state: contract.CloudInitState{Status: "none"}}
	if options.RunProgram == nil {
		runner.options.RunProgram = runner.runProgram
	}
	if options.Mount == nil {
		runner.options.Mount = runner.mountNow
	}
	return runner
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

// What the state tells at most: a document can be wrong in a million places.
const (
	maxReports     = 100
	maxReportBytes = 500
)

// addReport adds a text to a list of the state unless it is full, and says that it is.
func addReport(list []string, text string) []string {
	if len(text) > maxReportBytes {
		text = strings.ToValidUTF8(text[:maxReportBytes], "") + "…"
	}
	switch {
	case len(list) < maxReports:
		return append(list, text)
	case len(list) == maxReports:
		return append(list, "and more")
	}
	return list
}

// fail notes what went wrong in a module.
func (r *Runner) fail(module string, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		text := module + ": " + line
		r.options.Logf("cloud-init: %s", text)
		r.update(func(state *contract.CloudInitState) { state.Errors = addReport(state.Errors, text) })
	}
}

// inContext puts a name before each of the errors that were joined.
func inContext(name string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	var problems []error
	for _, problem := range joined.Unwrap() {
		problems = append(problems, inContext(name, problem))
	}
	return errors.Join(problems...)
}

// undone notes keys and kinds of parts that this agent leaves undone.
func (r *Runner) undone(names ...string) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		r.options.Logf("cloud-init: not done by this agent: %s", name)
		r.update(func(state *contract.CloudInitState) { state.UnknownModules = addReport(state.UnknownModules, name) })
	}
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
	r.undone(append(r.data.unknown, findUndone(r.data.config)...)...)
	r.offerPerCommand()
	if r.isDone(perInstance, keysGiven) {
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
	once // on this disk, whatever instance it becomes
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
	{"update_etc_hosts", []string{"manage_etc_hosts", "hostname", "fqdn"}, always, (*Runner).applyHosts},
	{"users_groups", []string{"users", "user", "groups"}, perInstance, (*Runner).applyAccounts},
	{"ssh", []string{"ssh_authorized_keys"}, perInstance, (*Runner).applyKeys},
	{"set_passwords", []string{"chpasswd", "password"}, perInstance, (*Runner).applyPasswords},
	{"ntp", []string{"ntp"}, perInstance, (*Runner).applyNTP},
	{"timezone", []string{"timezone"}, perInstance, (*Runner).applyTimezone},
	{"packages", packageKeys, perInstance, (*Runner).installPackages},
	{"write_files_deferred", []string{"write_files"}, perInstance, (*Runner).writeDeferredFiles},
	{"scripts_per_once", nil, once, (*Runner).runOnceScripts},
	{"scripts_per_boot", nil, always, (*Runner).runBootScripts},
	{"scripts_per_instance", nil, perInstance, (*Runner).runInstanceScripts},
	{"scripts_user", nil, perInstance, (*Runner).runUserScripts},
	{"final_message", []string{"final_message"}, always, (*Runner).sayFinalMessage},
}

func (r *Runner) runModules(ctx context.Context) {
	config := fields(r.data.config)
	for _, module := range modules {
		wanted := len(module.keys) == 0 || slices.ContainsFunc(module.keys, func(key string) bool {
			_, there := config[key]
			return there
		})
		if !wanted || (module.when != always && r.isDone(module.when, module.name)) {
			continue
		}
		if ctx.Err() != nil {
			r.fail(module.name, errors.New("the guest is stopping"))
			return
		}
		if err := r.apply(ctx, module, config); err != nil {
			r.fail(module.name, err)
		}
		if module.when != always {
			r.markDone(module.when, module.name)
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
	return instanceFolder(r.options.StateFolder, r.options.Documents.InstanceID)
}

func instanceFolder(stateFolder, id string) string {
	id = strings.Map(func(char rune) rune {
		if char == '/' || char == 0 {
			return '_'
		}
		return char
	}, id)
	return filepath.Join(stateFolder, "instance-"+id)
}

func (r *Runner) doneFolder(when frequency) string {
	if when == once {
		return r.options.StateFolder
	}
	return r.instanceFolder()
}

func (r *Runner) isDone(when frequency, name string) bool {
	_, err := os.Stat(filepath.Join(r.doneFolder(when), name+".done"))
	return err == nil
}

// markDone also marks what failed: upstream does not repeat it at the next boot either.
func (r *Runner) markDone(when frequency, name string) {
	folder := r.doneFolder(when)
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".done"), nil, 0o600)
	}
	if err != nil {
		r.options.Logf("cloud-init: %s will run again at the next boot: %v", name, err)
	}
}

// path is a path of the guest. One that leads above its root stays in it.
func (r *Runner) path(path string) string {
	return filepath.Join(r.options.Root, filepath.Clean("/"+path))
}

func (r *Runner) noteKeys() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.hasKeys = true
}
