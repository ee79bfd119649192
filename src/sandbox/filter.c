/* The seccomp filter: everything a plain program needs stays allowed, what reaches out of it fails with EPERM.  Other
 * architectures' calls (32 bits, x32) kill: libseccomp's default for a foreign architecture. */
#include "sandbox_priv.h"
#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Names that a library does not know yet are left out: their numbers are unknown to it, too. */
static int deny_all(scmp_filter_ctx ctx, const char *const *name, size_t n) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        int nr = seccomp_syscall_resolve_name(name[i]);
        if (nr != __NR_SCMP_ERROR)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
    }
    return rc;
}

/* Deny a call unless argument `arg` is `value`. */
static int only(scmp_filter_ctx ctx, const char *name, unsigned arg, uint64_t value) {
    int                       nr = seccomp_syscall_resolve_name(name);
    const struct scmp_arg_cmp other = {.arg = arg, .op = SCMP_CMP_NE, .datum_a = value, .datum_b = 0};
    return nr == __NR_SCMP_ERROR ? 0 : seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), nr, 1, &other);
}

static int add_common(scmp_filter_ctx ctx) {
    static const char *const denied[] = {
        "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "ptrace", "process_vm_readv", "process_vm_writev", "mount",
        "umount2", "pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "kexec_load",
        "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff", "userfaultfd", "io_uring_setup",
        "io_uring_enter", "io_uring_register", "open_by_handle_at", "name_to_handle_at", "acct", "quotactl", "settimeofday", "clock_settime",
        "adjtimex", "clock_adjtime", "fsopen", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr", "sethostname", "setdomainname",
        "iopl", "ioperm", "fork", "vfork", "shmget", "shmat", "msgget", "semget", "mq_open", "memfd_secret", "fanotify_init", "pidfd_getfd", "pidfd_open",
        "process_madvise", "process_mrelease", "kcmp", "move_pages", "migrate_pages", "syslog", "vhangup", "nfsservctl", "lookup_dcookie",
    };
    int rc = deny_all(ctx, denied, sizeof denied / sizeof *denied);
    if (rc == 0) /* clone makes threads (CLONE_THREAD), nothing else: no processes, no namespaces */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, 0x00010000, 0));
    if (rc == 0) /* clone3 hides its flags in memory; ENOSYS makes libc fall back to clone */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    const struct scmp_arg_cmp pdeathsig = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_PDEATHSIG, .datum_b = 0};
    if (rc == 0) /* the death signal ties the program to its guard: it may not be taken off */
        rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prctl), 1, &pdeathsig);
    return rc;
}

/* Without namespaces the user's other processes and files are in sight: no signal, no limit, no priority of another process; and of
 * files what Landlock does not rule over (modes, owners, times, attributes, being told of changes). */
static int add_unshared(scmp_filter_ctx ctx) {
    static const char *const denied[] = {
        "tkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "inotify_init", "inotify_init1", "inotify_add_watch", "chmod", "fchmod",
        "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr",
        "fremovexattr", "utime", "utimes", "utimensat", "futimesat", "truncate", "mknod", "mknodat", "sched_setparam", "sched_setscheduler",
        "sched_setattr", "ioprio_set", "setpriority", "umount", "setfsuid", "setfsgid", "setuid", "setgid", "setreuid", "setregid", "setresuid",
        "setresgid", "setgroups", "capset",
    };
    uint64_t self = (uint64_t)getpid();
    int      rc = deny_all(ctx, denied, sizeof denied / sizeof *denied);
    if (rc == 0)
        rc = only(ctx, "kill", 0, self);
    if (rc == 0)
        rc = only(ctx, "tgkill", 0, self);
    if (rc == 0)
        rc = only(ctx, "prlimit64", 0, 0);
    if (rc == 0)
        rc = only(ctx, "sched_setaffinity", 0, 0);
    return rc;
}

jpt_status sandbox_make_filter(int *fd, jpt_error *err) {
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int             rc = ctx ? add_common(ctx) : -ENOMEM;
    *fd = rc == 0 ? memfd_create("jpt-seccomp", MFD_CLOEXEC) : -1;
    if (rc == 0 && *fd >= 0)
        rc = seccomp_export_bpf(ctx, *fd);
    if (ctx)
        seccomp_release(ctx);
    if (rc != 0 || *fd < 0 || lseek(*fd, 0, SEEK_SET) != 0) {
        int why = rc < 0 ? -rc : errno;
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        return JPT_FAIL(err, SANDBOX, "code cannot be confined: the seccomp filter could not be made (%s)", strerror(why));
    }
    return JPT_OK;
}

int sandbox_load_filter(void) {
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int             rc = ctx ? add_common(ctx) : -ENOMEM;
    if (rc == 0)
        rc = add_unshared(ctx);
    if (rc == 0)
        rc = seccomp_load(ctx); /* sets no_new_privs, too */
    if (ctx)
        seccomp_release(ctx);
    return rc;
}
