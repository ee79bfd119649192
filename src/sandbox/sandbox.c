/* bubblewrap + seccomp + rlimits around one Python program.  The program arrives as an anonymous memory file on the
 * interpreter's standard input, so no file of the host is shared.  Inside, the program is an ordinary user; where root
 * runs jpt, bwrap itself runs as nobody if the kernel lets nobody make user namespaces.  (A mapped root is still root to
 * /proc/sys, whose files ask for the user and not for a capability: /proc is read-only for that reason.)  It is PID 1 of its namespace and may start threads but no process: nothing survives it, a fork bomb
 * does not start, and the limits of one process (memory, CPU) are the limits of all.  Not limited: how long it keeps
 * one processor busy within cpu_s, and what a hole in the kernel would give. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <jpt/sandbox.h>
#include <math.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534 };

static jpt_sandbox_limits resolve(const jpt_sandbox_limits *l) {
    jpt_sandbox_limits r = l ? *l : (jpt_sandbox_limits){0};
    r.wall_s = r.wall_s > 0 ? r.wall_s : 10;
    r.cpu_s = r.cpu_s > 0 ? r.cpu_s : 5;
    r.memory_bytes = r.memory_bytes ? r.memory_bytes : 256u << 20;
    r.file_bytes = r.file_bytes ? r.file_bytes : 1u << 20;
    r.tmpfs_bytes = r.tmpfs_bytes ? r.tmpfs_bytes : 8u << 20;
    r.output_bytes = r.output_bytes ? r.output_bytes : 64u << 10;
    r.processes = r.processes > 0 ? r.processes : 16;
    return r;
}

void jpt_sandbox_result_fini(jpt_sandbox_result *r) {
    jpt_buf_fini(&r->out);
    jpt_buf_fini(&r->err);
}

/* ---- seccomp ------------------------------------------------------------------------------------------------ */

/* A memory file with the filter in BPF: everything a plain program needs stays allowed, what reaches out of it fails
 * with EPERM. */
static jpt_status make_filter(int *fd, jpt_error *err) {
    static const char *const denied[] = {
        "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "ptrace", "process_vm_readv", "process_vm_writev", "mount",
        "umount2", "pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "kexec_load",
        "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff", "userfaultfd", "io_uring_setup",
        "io_uring_enter", "io_uring_register", "open_by_handle_at", "name_to_handle_at", "acct", "quotactl", "settimeofday", "clock_settime",
        "adjtimex", "fsopen", "fsmount", "move_mount", "open_tree", "mount_setattr", "sethostname", "setdomainname", "iopl", "ioperm",
        "fork", "vfork", "shmget", "msgget", "semget", "mq_open", "memfd_secret", "fanotify_init", "pidfd_getfd", "pidfd_open",
    };
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int             rc = ctx ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < sizeof denied / sizeof *denied; i++) {
        int nr = seccomp_syscall_resolve_name(denied[i]);
        if (nr != __NR_SCMP_ERROR)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
    }
    if (rc == 0) /* clone makes threads (CLONE_THREAD), nothing else: no processes, no namespaces */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, 0x00010000, 0));
    if (rc == 0) /* clone3 hides its flags in memory; ENOSYS makes libc fall back to clone */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    const struct scmp_arg_cmp pdeathsig = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_PDEATHSIG, .datum_b = 0};
    if (rc == 0) /* the death signal ties the program to its guard: it may not be taken off */
        rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prctl), 1, &pdeathsig);
    *fd = rc == 0 ? memfd_create("jpt-seccomp", MFD_CLOEXEC) : -1;
    if (rc == 0 && *fd >= 0)
        rc = seccomp_export_bpf(ctx, *fd);
    if (ctx)
        seccomp_release(ctx);
    if (rc != 0 || *fd < 0 || lseek(*fd, 0, SEEK_SET) != 0) {
        int why = rc < 0 ? -rc : errno;
        if (*fd >= 0)
            close(*fd);
        return JPT_FAIL(err, SANDBOX, "code cannot be confined: the seccomp filter could not be made (%s)", strerror(why));
    }
    return JPT_OK;
}

/* The program as a memory file, read from its start. */
static jpt_status make_input(jpt_str source, int *fd, jpt_error *err) {
    *fd = memfd_create("jpt-program", MFD_CLOEXEC);
    bool ok = *fd >= 0;
    for (size_t at = 0; ok && at < source.n;) {
        ssize_t n = write(*fd, source.p + at, source.n - at);
        ok = n > 0 || (n < 0 && errno == EINTR);
        at += n > 0 ? (size_t)n : 0;
    }
    if (ok && lseek(*fd, 0, SEEK_SET) == 0)
        return JPT_OK;
    int why = errno;
    if (*fd >= 0)
        close(*fd);
    return JPT_FAIL(err, SANDBOX, "cannot hand the program to the sandbox: %s", strerror(why));
}

/* ---- the child ----------------------------------------------------------------------------------------------- */

static void limit(int what, uint64_t soft, uint64_t hard) {
    struct rlimit r = {soft, hard};
    setrlimit(what, &r);
}

/* Set by the probe: root gives itself up before bwrap. */
static bool as_nobody = true;

static _Noreturn void run_child(const jpt_sandbox_limits *l, int in, int out, int errfd, int filter) {
    char size[32], fd[16];
    setpgid(0, 0);
    dup2(in, 0);
    dup2(out, 1);
    dup2(errfd, 2);
    /* of the host's open files only `filter` goes on to bwrap, which closes it after reading */
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
        for (int i = 3; i < 65536; i++)
            fcntl(i, F_SETFD, FD_CLOEXEC);
    fcntl(filter, F_SETFD, 0);
    if (as_nobody && geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)) {
        dprintf(2, "cannot become nobody: %s", strerror(errno));
        _exit(127);
    }
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_CPU, (uint64_t)ceil(l->cpu_s), (uint64_t)ceil(l->cpu_s)); /* the hard limit kills; PID 1 would ignore SIGXCPU */
    limit(RLIMIT_FSIZE, l->file_bytes, l->file_bytes);
    limit(RLIMIT_NOFILE, 64, 64);
    limit(RLIMIT_AS, l->memory_bytes, l->memory_bytes);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    snprintf(size, sizeof size, "%llu", (unsigned long long)l->tmpfs_bytes);
    snprintf(fd, sizeof fd, "%d", filter);
    char limits[400]; /* process limit counts per user: it is set inside, where the user is the sandbox's own */
    snprintf(limits, sizeof limits, "import resource,sys;resource.setrlimit(resource.RLIMIT_NPROC,(%d,%d));exec(compile(sys.stdin.buffer.read(),'program','exec'),{'__name__':'__main__'})",
             l->processes, l->processes);
    char *argv[] = {"bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--uid", "65534", "--gid", "65534",
                    "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
                    "--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/proc",
                    "--remount-ro", "/",
                    "--chdir", "/tmp", "--clearenv", "--setenv", "PATH", "/usr/bin", "--setenv", "PYTHONDONTWRITEBYTECODE", "1", "--setenv", "HOME", "/tmp",
                    "--hostname", "sandbox", "--seccomp", fd, "/usr/bin/python3", "-I", "-S", "-c", limits, NULL};
    /* --as-pid-1 makes the program PID 1 of its namespace: when it ends, all it started ends */
    execvp("bwrap", argv);
    dprintf(2, "bwrap: %s", strerror(errno));
    _exit(127);
}

/* ---- the parent ------------------------------------------------------------------------------------------------ */

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Collect output and watch the clock; *end stays EXITED when both pipes closed by themselves. */
static void pump(const jpt_sandbox_limits *l, int fd[2], double deadline_s, jpt_sandbox_result *r, jpt_sandbox_end *end, bool *interrupted) {
    while (fd[0] >= 0 || fd[1] >= 0) {
        double left = deadline_s - jpt_now_s();
        if (jpt_stop_requested()) {
            *interrupted = true;
            return;
        }
        if (left <= 0) {
            *end = JPT_SANDBOX_TIMEOUT;
            return;
        }
        struct pollfd p[2] = {{fd[0], POLLIN, 0}, {fd[1], POLLIN, 0}};
        if (poll(p, 2, left > 0.1 ? 100 : (int)(left * 1000) + 1) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < 2; i++) {
            if (fd[i] < 0 || !p[i].revents)
                continue;
            char     chunk[4096];
            jpt_buf *b = i == 0 ? &r->out : &r->err;
            size_t   room = l->output_bytes - b->n; /* one byte more tells that there was more */
            ssize_t  n = read(fd[i], chunk, room < sizeof chunk ? room + 1 : sizeof chunk);
            if (n > 0 && (size_t)n > room) {
                jpt_buf_add(b, chunk, room);
                *end = JPT_SANDBOX_OUTPUT_LIMIT;
                return;
            }
            if (n > 0)
                jpt_buf_add(b, chunk, (size_t)n);
            else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                close_fd(&fd[i]);
        }
    }
}

/* Wait for bwrap until the deadline; false when it still runs.  *cpu_s: of the program and of bwrap. */
static bool reap(pid_t pid, double deadline_s, int *status, double *cpu_s) {
    for (;;) {
        struct rusage use;
        pid_t         got = wait4(pid, status, WNOHANG, &use);
        if (got == pid)
            *cpu_s = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + 1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
        if (got == pid || (got < 0 && errno != EINTR))
            return true;
        if (jpt_now_s() >= deadline_s || jpt_stop_requested())
            return false;
        usleep(500);
    }
}

static jpt_status run(jpt_str source, const jpt_sandbox_limits *l, jpt_sandbox_result *r, jpt_error *err) {
    int filter = -1, input = -1, out[2] = {-1, -1}, errs[2] = {-1, -1};
    r->cpu_s = NAN;
    JPT_TRY(make_filter(&filter, err));
    jpt_status st = make_input(source, &input, err);
    if (st != JPT_OK) {
        close(filter);
        return st;
    }
    bool   ok = pipe2(out, O_CLOEXEC) == 0 && pipe2(errs, O_CLOEXEC) == 0;
    double t0 = jpt_now_s(), deadline_s = t0 + l->wall_s;
    pid_t  pid = ok ? fork() : -1;
    int    why = errno;
    if (pid == 0)
        run_child(l, input, out[1], errs[1], filter);
    close(filter);
    close(input);
    close_fd(&out[1]);
    close_fd(&errs[1]);
    int fd[2] = {out[0], errs[0]};
    if (pid < 0) {
        close_fd(&fd[0]);
        close_fd(&fd[1]);
        return JPT_FAIL(err, SANDBOX, "cannot start the sandbox: %s", strerror(why));
    }
    setpgid(pid, pid);
    for (int i = 0; i < 2; i++)
        fcntl(fd[i], F_SETFL, O_NONBLOCK);
    jpt_sandbox_end end = JPT_SANDBOX_EXITED;
    bool            interrupted = false;
    int             status = 0;
    pump(l, fd, deadline_s, r, &end, &interrupted);
    close_fd(&fd[0]);
    close_fd(&fd[1]);
    bool done = end == JPT_SANDBOX_EXITED && !interrupted && reap(pid, deadline_s, &status, &r->cpu_s);
    if (!done) {
        if (end == JPT_SANDBOX_EXITED)
            end = JPT_SANDBOX_TIMEOUT;
        interrupted = interrupted || jpt_stop_requested();
        kill(-pid, SIGKILL); /* bwrap dies; its death signal kills PID 1 of the namespace, and with it everything inside */
        kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    r->wall_s = jpt_now_s() - t0;
    if (interrupted)
        return JPT_FAIL(err, INTERRUPTED, "interrupted");
    if (r->out.oom || r->err.oom)
        return JPT_FAIL(err, NOMEM, "out of memory for a program's output");
    r->end = end;
    if (end != JPT_SANDBOX_EXITED)
        return JPT_OK;
    int sig = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) > 128 && WEXITSTATUS(status) < 160 ? WEXITSTATUS(status) - 128 : 0; /* bwrap's way to say signal */
    if (sig) /* inside nothing can send SIGKILL to PID 1: it was the kernel, for CPU time or memory */
        r->end = sig == SIGKILL || sig == SIGXCPU || sig == SIGXFSZ ? JPT_SANDBOX_RESOURCE : JPT_SANDBOX_SIGNALLED;
    r->code = sig ? sig : WEXITSTATUS(status);
    return JPT_OK;
}

jpt_status jpt_sandbox_probe(jpt_error *err) {
    static int  known; /* 0 not yet, 1 yes, -1 no */
    static char why[256];
    for (int attempt = 0; known == 0; attempt++) {
        jpt_sandbox_limits l = resolve(NULL);
        jpt_sandbox_result r = {0};
        jpt_error          e = {0};
        const char        *text = "import os\nassert os.listdir('/tmp') == [] and not os.path.exists('/etc/passwd')\nprint('confined')\n";
        as_nobody = attempt == 0;
        jpt_status st = run(jpt_str_z(text), &l, &r, &e);
        bool       good = st == JPT_OK && r.end == JPT_SANDBOX_EXITED && r.code == 0 && r.out.n && strcmp(r.out.p, "confined\n") == 0;
        if (good)
            known = 1;
        else if (st != JPT_INTERRUPTED && (attempt == 1 || geteuid() != 0)) {
            char *line = r.err.n ? r.err.p : e.msg;
            line[strcspn(line, "\n")] = '\0';
            snprintf(why, sizeof why, "%.200s", *line ? line : "the probe failed");
            known = -1;
        }
        jpt_sandbox_result_fini(&r);
        if (st == JPT_INTERRUPTED)
            return JPT_FAIL(err, INTERRUPTED, "interrupted");
    }
    if (known > 0)
        return JPT_OK;
    return JPT_FAIL(err, SANDBOX, "generated code cannot be confined here, so it is not run (%s); install bubblewrap and python3 and allow user namespaces", why);
}

jpt_status jpt_sandbox_python(jpt_str source, const jpt_sandbox_limits *limits, jpt_sandbox_result *out, jpt_error *err) {
    *out = (jpt_sandbox_result){0};
    JPT_TRY(jpt_sandbox_probe(err));
    jpt_sandbox_limits l = resolve(limits);
    return run(source, &l, out, err);
}
