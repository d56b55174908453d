/* A disk that fails, by LD_PRELOAD. Owns the answers of the calls that write and sync files below one directory.
 * Does not keep data. Invariant: without a fault in the control file every call goes to the C library unchanged.
 *
 * The control file, named by EVERDESK_LAB_DISK, is mapped: looking at it costs no system call. Its layout is that of
 * `preload.rs`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    uint64_t sync_fail;     /* next N syncs fail with EIO; all for UINT64_MAX */
    uint64_t sync_delay_us; /* every sync takes so much longer */
    uint64_t write_fail;    /* next N writes fail; all for UINT64_MAX */
    uint64_t write_errno;   /* with this */
    uint64_t syncs;         /* seen below the directory while a fault of syncs was set */
    uint64_t syncs_failed;
    uint64_t writes_failed;
    uint64_t below_len;
    char below[4096 - 8 * sizeof(uint64_t)];
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("EVERDESK_LAB_DISK");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        control = at;
}

static uint64_t look(uint64_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
static void count(uint64_t *at) { __atomic_add_fetch(at, 1, __ATOMIC_RELAXED); }

/* Whether one of the next N calls is this one. */
static int take(uint64_t *left) {
    uint64_t now = look(left);
    while (now != 0) {
        if (now == UINT64_MAX || __atomic_compare_exchange_n(left, &now, now - 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return 1;
    }
    return 0;
}

static int is_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    uint64_t wanted = control->below_len;
    return length > 0 && (uint64_t)length >= wanted && memcmp(path, control->below, wanted) == 0;
}

/* -1 with errno when this sync shall fail. A call without a file (msync) counts as below. */
static int before_sync(int fd) {
    if (!control || (look(&control->sync_fail) == 0 && look(&control->sync_delay_us) == 0))
        return 0;
    int before = errno;
    if (fd >= 0 && !is_below(fd)) {
        errno = before;
        return 0;
    }
    count(&control->syncs);
    uint64_t delay = look(&control->sync_delay_us);
    if (delay > 0) {
        struct timespec left = {delay / 1000000, delay % 1000000 * 1000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {
        }
    }
    errno = before;
    if (!take(&control->sync_fail))
        return 0;
    count(&control->syncs_failed);
    errno = EIO;
    return -1;
}

static int before_write(int fd) {
    if (!control || look(&control->write_fail) == 0)
        return 0;
    int before = errno;
    int hit = is_below(fd) && take(&control->write_fail);
    errno = before;
    if (!hit)
        return 0;
    count(&control->writes_failed);
    errno = (int)look(&control->write_errno);
    return -1;
}

#define CALL(result, name, types, args, guard)                                                                         \
    result name types {                                                                                                \
        static result(*next) types;                                                                                    \
        if (!next)                                                                                                     \
            next = (result(*) types)dlsym(RTLD_NEXT, #name);                                                           \
        return guard != 0 ? -1 : next args;                                                                            \
    }

CALL(int, fsync, (int fd), (fd), before_sync(fd))
CALL(int, fdatasync, (int fd), (fd), before_sync(fd))
CALL(int, sync_file_range, (int fd, off_t at, off_t length, unsigned flags), (fd, at, length, flags), before_sync(fd))
CALL(int, msync, (void *at, size_t length, int flags), (at, length, flags), before_sync(-1))
CALL(ssize_t, write, (int fd, const void *from, size_t length), (fd, from, length), before_write(fd))
CALL(ssize_t, writev, (int fd, const struct iovec *from, int parts), (fd, from, parts), before_write(fd))
CALL(ssize_t, pwrite, (int fd, const void *from, size_t length, off_t at), (fd, from, length, at), before_write(fd))
CALL(ssize_t, pwrite64, (int fd, const void *from, size_t length, off64_t at), (fd, from, length, at), before_write(fd))
