// SPDX-License-Identifier: Apache-2.0
// What the agents of the bench supervise. `stamp FILE` appends the monotonic time of its first instruction to FILE and
// sleeps; `flood BYTES FILE` writes numbered lines to stdout and then how long that took, in nanoseconds, to FILE.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void note(const char *path, long long value) {
    char text[32];
    int length = snprintf(text, sizeof text, "%lld\n", value);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file < 0 || write(file, text, length) != length)
        exit(1);
    close(file);
}

static void flood(long long bytes, const char *path) {
    static char block[64 * 1024];
    long long begun = now(), line = 0;
    while (bytes > 0) {
        size_t filled = 0;
        while (filled + 100 < sizeof block) {
            filled += sprintf(block + filled, "%010lld the quick brown fox jumps over the lazy dog and back, and once more, and rests\n", line++);
        }
        for (size_t done = 0; done < filled;) {
            ssize_t written = write(1, block + done, filled - done);
            if (written < 0)
                exit(1);
            done += written;
        }
        bytes -= filled;
    }
    long long took = now() - begun;
    printf("%010lld end\n", line);
    fflush(stdout);
    note(path, took);
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "stamp") == 0)
        note(arguments[2], now());
    else if (count == 4 && strcmp(arguments[1], "flood") == 0)
        flood(atoll(arguments[2]), arguments[3]);
    else
        return 2;
    for (;;)
        pause();
}
