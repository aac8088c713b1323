/* SPDX-License-Identifier: Apache-2.0 */
/* The least that gets nginx to answer in a guest: the peer of kestrel in cost-create-to-http.
 *
 * PID 1 of a minimal initramfs: loads /modules/0, /modules/1, ... in order, waits for /dev/vda, mounts it, sets
 * eth0 to 10.0.2.15/24 with a default route by 10.0.2.2, and becomes nginx in it. Static, no shell, no agent. */
#include "guest_steps.h"

#ifndef WORKLOAD /* another disk's: -DWORKLOAD='"/bin/httpd", "-f"' */
#define WORKLOAD "/usr/sbin/nginx", "-g", "daemon off;"
#endif

static void load_modules(void)
{
	char path[64];
	for (int i = 0;; i++) {
		snprintf(path, sizeof path, "/modules/%d", i);
		if (access(path, R_OK))
			return;
		load_module(path);
	}
}

int main(void)
{
	mkdir("/dev", 0755);
	mkdir("/root", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	for (int tries = 0; mount("/dev/vda", "/root", "ext4", 0, NULL); tries++) {
		if (tries == 2000)
			die("/dev/vda");
		usleep(1000);
	}
	if (chdir("/root") || mount("/dev", "dev", NULL, MS_MOVE, NULL) || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot("."))
		die("root");
	mount("proc", "/proc", "proc", 0, NULL);
	mount("run", "/run", "tmpfs", 0, NULL);
	bring_up("lo", "127.0.0.1", "255.0.0.0");
	bring_up("eth0", "10.0.2.15", "255.255.255.0");
	add_default_route("10.0.2.2");
	char *arguments[] = {WORKLOAD, NULL};
	char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	execve(arguments[0], arguments, environment);
	die(arguments[0]);
}
