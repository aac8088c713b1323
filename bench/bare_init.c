/* SPDX-License-Identifier: Apache-2.0 */
/* The least that gets nginx to answer in a guest: the peer of kestrel in cost-create-to-http.
 *
 * PID 1 of a minimal initramfs: loads /modules/0, /modules/1, ... in order, waits for /dev/vda, mounts it, sets
 * eth0 to 10.0.2.15/24 with a default route by 10.0.2.2, and becomes nginx in it. Static, no shell, no agent. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void die(const char *what)
{
	printf("bare_init: %s: %s\n", what, strerror(errno));
	sync();
	syscall(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc, NULL);
	for (;;)
		pause();
}

static void load_modules(void)
{
	char path[64];
	for (int i = 0;; i++) {
		snprintf(path, sizeof path, "/modules/%d", i);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
			die(path);
		close(fd);
	}
}

static void set_address(struct ifreq *request, const char *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&request->ifr_addr;
	memset(in, 0, sizeof *in);
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
}

static void bring_up(const char *name, const char *address, const char *mask)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = {0};
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	set_address(&request, address);
	if (ioctl(fd, SIOCSIFADDR, &request))
		die(name);
	set_address(&request, mask);
	ioctl(fd, SIOCSIFNETMASK, &request);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	ioctl(fd, SIOCSIFFLAGS, &request);
	close(fd);
}

static void add_default_route(const char *gateway)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct rtentry route = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&route.rt_gateway;
	in->sin_family = AF_INET;
	inet_pton(AF_INET, gateway, &in->sin_addr);
	((struct sockaddr_in *)&route.rt_dst)->sin_family = AF_INET;
	((struct sockaddr_in *)&route.rt_genmask)->sin_family = AF_INET;
	route.rt_flags = RTF_UP | RTF_GATEWAY;
	ioctl(fd, SIOCADDRT, &route);
	close(fd);
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
	char *arguments[] = {"/usr/sbin/nginx", "-g", "daemon off;", NULL};
	char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	execve(arguments[0], arguments, environment);
	die("nginx");
}
