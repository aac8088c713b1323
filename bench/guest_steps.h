/* SPDX-License-Identifier: Apache-2.0 */
/* What the C programs that stand in for kestrel in benches share: ending with a reason, modules, one interface. */
#define _GNU_SOURCE
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
	printf("%s: %s\n", what, strerror(errno));
	sync();
	syscall(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc, NULL);
	for (;;)
		pause();
}

static void load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
		die(path);
	close(fd);
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
