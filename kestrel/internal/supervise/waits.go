// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"

	"github.com/volantvm/volant/kestrel/internal/contract"
)

// awaitDependencies returns when all dependencies are ready; false: not wanted any more. A dependency that failed is
// shown as this process's own failure, but it may yet be started by hand and get ready, so the wait goes on.
func (p *process) awaitDependencies(ctx context.Context) bool {
	mutex := &p.supervisor.mutex
	for _, dependency := range p.dependencies {
		for {
			mutex.Lock()
			ready, changed := dependency.ready, dependency.changed
			state, reason := contract.ProcessWaiting, "waits for "+dependency.spec.name+dependency.describeTrouble()
			if dependency.state == contract.ProcessFailed {
				state = contract.ProcessFailed
				reason = fmt.Sprintf("depends on %s, which failed: %s", dependency.spec.name, dependency.reason)
			}
			known := p.state == state && p.reason == reason
			mutex.Unlock()
			if ready {
				break
			}
			if !known {
				if state == contract.ProcessFailed {
					p.supervisor.options.Logs.Say("process %s is not started: it %s", p.spec.name, reason)
				}
				p.update(func() {
					p.move(state, reason)
					p.exit = nil
				})
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return false
			}
		}
	}
	return ctx.Err() == nil
}

// describeTrouble says why a process that others wait for is not well; empty while nothing is known. Called with the lock held.
func (p *process) describeTrouble() string {
	for _, monitor := range p.monitors {
		if state, reason := monitor.State(); state == contract.HealthUnhealthy {
			return ", which is unhealthy: " + reason
		}
	}
	if p.state == contract.ProcessBackoff {
		return ", which " + p.reason
	}
	return ""
}

func (p *process) awaitVsock(ctx context.Context) bool {
	wait := p.supervisor.options.WaitForVsock
	if p.spec.vsock == nil || wait == nil {
		return true
	}
	p.set(contract.ProcessStarting, fmt.Sprintf("waits for vsock %d:%d", p.spec.vsock.cid, p.spec.vsock.port))
	if err := wait(ctx, p.spec.vsock.cid, p.spec.vsock.port); err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("cannot start %s: vsock %d:%d: %w", p.spec.name, p.spec.vsock.cid, p.spec.vsock.port, err)
			p.supervisor.options.Logs.Say("%v", err)
			p.giveUp(contract.ProcessFailed, err.Error())
		}
		return false
	}
	return true
}
