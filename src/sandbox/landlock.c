/* Landlock by its system calls: libc has no wrappers, and headers know older versions than kernels.
 * https://docs.kernel.org/userspace-api/landlock.html */
#include "sandbox_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 }; /* the same on all architectures */

typedef struct ruleset_attr {
    uint64_t fs, net, scoped; /* version 1, 4, 6 */
} ruleset_attr;

typedef struct path_attr {
    uint64_t allowed;
    int32_t  fd;
} __attribute__((packed)) path_attr;

#define FS_EXECUTE (1ull << 0)
#define FS_WRITE (1ull << 1)
#define FS_READ (1ull << 2)
#define FS_READ_DIR (1ull << 3)

static int allow(int ruleset, const char *path, uint64_t access) {
    path_attr a = {.allowed = access, .fd = open(path, O_PATH | O_CLOEXEC)};
    if (a.fd < 0)
        return -errno;
    int rc = syscall(ADD_RULE, ruleset, 1, &a, 0) == 0 ? 0 : -errno;
    close(a.fd);
    return rc;
}

int sandbox_landlock(void) {
    long version = syscall(CREATE_RULESET, NULL, 0, 1u);
    if (version < 1)
        return -errno;
    /* bits of the file rights by version: 13 in 1, refer in 2, truncate in 3, ioctl on devices in 5 */
    int          bits = version >= 5 ? 16 : version >= 3 ? 15 : version == 2 ? 14 : 13;
    ruleset_attr a = {.fs = (1ull << bits) - 1, .net = 3, .scoped = 3};
    size_t       size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    int          ruleset = (int)syscall(CREATE_RULESET, &a, size, 0u);
    if (ruleset < 0)
        return -errno;
    int rc = allow(ruleset, "/usr", FS_EXECUTE | FS_READ | FS_READ_DIR);
    if (rc == 0)
        rc = allow(ruleset, "/dev/null", FS_READ | FS_WRITE);
    if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        rc = -errno;
    if (rc == 0 && syscall(RESTRICT_SELF, ruleset, 0u) != 0)
        rc = -errno;
    close(ruleset);
    return rc;
}
