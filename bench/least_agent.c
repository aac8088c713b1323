/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that kestrel makes from main to the workload's start, and nothing around them: no checks, no JSON
 * reader, no supervision. What they take is the kernel's own time under this machine, which no agent can undercut.
 *
 * Boots from kestrel's own archive (/volant/guest.json, /volant/modules) and prints "least: N ms", less the time in
 * finit_module. */
#include "guest_steps.h"
#include <sys/resource.h>
#include <time.h>

static double milliseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* Loads the modules that guest.json lists and the agent loads before the workload; returns the time it took. */
static double load_modules(const char *settings)
{
	double began = milliseconds();
	const char *at = strstr(settings, "\"modules\"");
	const char *end = at ? strchr(at, ']') : NULL;
	at = at ? strchr(at, '[') : NULL;
	while (at && (at = strchr(at, '"')) && at < end) {
		char path[128];
		const char *close = strchr(at + 1, '"');
		snprintf(path, sizeof path, "/volant/modules/%.*s", (int)(close - at - 1), at + 1);
		at = close + 1;
		if (!strstr(path, "vsock") && !strstr(path, "virtio_console") && !strstr(path, "virtio_rng"))
			load_module(path);
	}
	return milliseconds() - began;
}

static void mount_or_die(const char *type, const char *target, const char *options)
{
	mkdir(target, 0755);
	if (mount(type, target, type, 0, options) && errno != EBUSY)
		die(target);
}

static void enter_root(void)
{
	static const char *const moved[] = {"proc", "sys", "dev"};
	char from[16], to[32];
	mkdir("/root.disk", 0755);
	for (int tries = 0; mount("/dev/vda", "/root.disk", "ext4", 0, NULL); tries++) {
		if (tries == 2000)
			die("/dev/vda");
		usleep(1000);
	}
	for (int i = 0; i < 3; i++) {
		snprintf(from, sizeof from, "/%s", moved[i]);
		snprintf(to, sizeof to, "/root.disk/%s", moved[i]);
		if (mount(from, to, NULL, MS_MOVE, NULL))
			die(to);
	}
	if (chdir("/root.disk") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		die("root");
}

static void cover_agent(int self)
{
	char link[32];
	snprintf(link, sizeof link, "/proc/self/fd/%d", self);
	mkdir("/usr", 0755);
	mkdir("/usr/local", 0755);
	mkdir("/usr/local/bin", 0755);
	close(open("/usr/local/bin/kestrel", O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
	if (mount(link, "/usr/local/bin/kestrel", NULL, MS_BIND, NULL))
		die("/usr/local/bin/kestrel");
}

static void write_file(const char *path, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, content, strlen(content)) < 0)
		die(path);
	close(fd);
}

static void read_file(const char *path, char *content, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, content, size - 1) < 0)
		die(path);
	close(fd);
}

static void start_workload(void)
{
	char *arguments[] = {"/bin/sleep", "1000", NULL};
	char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	int output[2], errors[2];
	if (pipe2(output, O_CLOEXEC) || pipe2(errors, O_CLOEXEC))
		die("pipe");
	if (vfork() == 0) {
		dup2(output[1], 1);
		dup2(errors[1], 2);
		setsid();
		execve(arguments[0], arguments, environment);
		_exit(127);
	}
}

int main(void)
{
	static char settings[65536], image[4096];
	const struct rlimit files = {65536, 1 << 20};
	const struct timespec now = {1767225600, 0};
	double began = milliseconds();

	mount_or_die("proc", "/proc", NULL);
	mount_or_die("sysfs", "/sys", NULL);
	mount_or_die("devtmpfs", "/dev", NULL);
	setrlimit(RLIMIT_NOFILE, &files);
	read_file("/volant/guest.json", settings, sizeof settings);
	int self = open("/init", O_PATH | O_CLOEXEC);
	double modules = load_modules(settings);
	enter_root();
	bring_up("lo", "127.0.0.1", "255.0.0.0");
	bring_up("eth0", "10.0.2.15", "255.255.255.0");
	add_default_route("10.0.2.2");
	mount_or_die("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666");
	mount_or_die("tmpfs", "/dev/shm", "mode=1777");
	mount_or_die("mqueue", "/dev/mqueue", NULL);
	mount_or_die("cgroup2", "/sys/fs/cgroup", "nsdelegate");
	mount_or_die("tmpfs", "/run", "mode=0755");
	symlink("/proc/self/fd", "/dev/fd");
	cover_agent(self);
	clock_settime(CLOCK_REALTIME, &now);
	sethostname("test", 4);
	write_file("/etc/hosts", "127.0.0.1 localhost\n10.0.2.15 test\n");
	write_file("/etc/resolv.conf", "nameserver 10.0.2.3\n");
	read_file("/etc/kestrel/image.json", image, sizeof image);
	start_workload();

	printf("least: %.1f ms\n", milliseconds() - began - modules);
	for (;;)
		pause();
}
