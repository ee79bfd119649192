/* bubblewrap + seccomp + rlimits around one Python program.  The program arrives on the interpreter's standard input, so
 * no file of the host is shared.  Root is mapped away: inside, the program is an ordinary user. */
#include <errno.h>
#include <fcntl.h>
#include <jpt/sandbox.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

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
    };
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int             rc = ctx ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < sizeof denied / sizeof *denied; i++) {
        int nr = seccomp_syscall_resolve_name(denied[i]);
        if (nr != __NR_SCMP_ERROR)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
    }
    if (rc == 0) /* clone may not make namespaces; clone3 hides its flags, so it does not exist */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, 0x10000000, 0x10000000));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    *fd = rc == 0 ? memfd_create("jpt-seccomp", 0) : -1;
    if (rc == 0 && *fd >= 0)
        rc = seccomp_export_bpf(ctx, *fd);
    if (ctx)
        seccomp_release(ctx);
    if (rc != 0 || *fd < 0 || lseek(*fd, 0, SEEK_SET) != 0)
        return JPT_FAIL(err, SANDBOX, "code cannot be confined: the seccomp filter could not be made (%s)", strerror(rc < 0 ? -rc : errno));
    return JPT_OK;
}

/* ---- the child ----------------------------------------------------------------------------------------------- */

static void limit(int what, uint64_t soft, uint64_t hard) {
    struct rlimit r = {soft, hard};
    setrlimit(what, &r);
}

static _Noreturn void run_child(const jpt_sandbox_limits *l, int in, int out, int errfd, int filter) {
    char size[32], fd[16];
    setpgid(0, 0);
    dup2(in, 0);
    dup2(out, 1);
    dup2(errfd, 2);
    /* bwrap needs descriptor `filter`; all others close on exec */
    fcntl(filter, F_SETFD, 0);
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_CPU, (uint64_t)l->cpu_s + 1, (uint64_t)l->cpu_s + 2);
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
                    "--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp", "--chdir", "/tmp",
                    "--clearenv", "--setenv", "PATH", "/usr/bin", "--setenv", "PYTHONDONTWRITEBYTECODE", "1", "--setenv", "HOME", "/tmp",
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

/* Feed `source`, collect output, watch the clock; *end stays EXITED when both pipes closed by themselves. */
static void pump(jpt_str source, const jpt_sandbox_limits *l, int fd[3], double deadline_s, jpt_sandbox_result *r, jpt_sandbox_end *end,
                 bool *interrupted) {
    size_t sent = 0;
    while (fd[1] >= 0 || fd[2] >= 0) {
        double left = deadline_s - jpt_now_s();
        if (jpt_stop_requested()) {
            *interrupted = true;
            return;
        }
        if (left <= 0) {
            *end = JPT_SANDBOX_TIMEOUT;
            return;
        }
        struct pollfd p[3] = {{fd[0], POLLOUT, 0}, {fd[1], POLLIN, 0}, {fd[2], POLLIN, 0}};
        if (poll(p, 3, left > 0.1 ? 100 : (int)(left * 1000) + 1) < 0 && errno != EINTR)
            return;
        if (fd[0] >= 0 && p[0].revents) {
            ssize_t n = sent < source.n ? write(fd[0], source.p + sent, source.n - sent) : 0;
            if (n > 0)
                sent += (size_t)n;
            if (sent == source.n || (n < 0 && errno != EAGAIN && errno != EINTR))
                close_fd(&fd[0]);
        }
        for (int i = 1; i < 3; i++) {
            if (fd[i] < 0 || !p[i].revents)
                continue;
            char     chunk[4096];
            ssize_t  n = read(fd[i], chunk, sizeof chunk);
            jpt_buf *b = i == 1 ? &r->out : &r->err;
            if (n > 0)
                jpt_buf_add(b, chunk, (size_t)n);
            else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                close_fd(&fd[i]);
            if (b->n > l->output_bytes) {
                *end = JPT_SANDBOX_OUTPUT_LIMIT;
                return;
            }
        }
    }
}

static jpt_status run(jpt_str source, const jpt_sandbox_limits *l, jpt_sandbox_result *r, jpt_error *err) {
    int filter = -1, pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    JPT_TRY(make_filter(&filter, err));
    bool ok = true;
    for (int i = 0; i < 3; i++)
        ok = pipe2(pipes[i], O_CLOEXEC) == 0 && ok;
    double t0 = jpt_now_s();
    pid_t  pid = ok ? fork() : -1;
    if (pid == 0)
        run_child(l, pipes[0][0], pipes[1][1], pipes[2][1], filter);
    close(filter);
    close_fd(&pipes[0][0]);
    close_fd(&pipes[1][1]);
    close_fd(&pipes[2][1]);
    int fd[3] = {pipes[0][1], pipes[1][0], pipes[2][0]};
    if (pid < 0) {
        for (int i = 0; i < 3; i++)
            close_fd(&fd[i]);
        return JPT_FAIL(err, SANDBOX, "cannot start the sandbox: %s", strerror(errno));
    }
    setpgid(pid, pid);
    for (int i = 0; i < 3; i++)
        fcntl(fd[i], F_SETFL, O_NONBLOCK);
    jpt_sandbox_end end = JPT_SANDBOX_EXITED;
    bool            interrupted = false;
    pump(source, l, fd, t0 + l->wall_s, r, &end, &interrupted);
    for (int i = 0; i < 3; i++)
        close_fd(&fd[i]);
    int status = 0;
    if (end == JPT_SANDBOX_EXITED && !interrupted) { /* both pipes are closed: the program is ending, within the clock */
        while (waitpid(pid, &status, WNOHANG) == 0 && jpt_now_s() < t0 + l->wall_s)
            usleep(1000);
        if (waitpid(pid, &status, WNOHANG) == 0)
            end = JPT_SANDBOX_TIMEOUT;
    }
    if (end != JPT_SANDBOX_EXITED || interrupted) {
        kill(-pid, SIGKILL); /* bwrap dies, and with PID 1 of the namespace everything inside */
        kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    r->wall_s = jpt_now_s() - t0;
    if (interrupted)
        return JPT_FAIL(err, INTERRUPTED, "interrupted");
    r->end = end;
    if (end == JPT_SANDBOX_EXITED && WIFSIGNALED(status)) {
        r->end = JPT_SANDBOX_SIGNALLED;
        r->code = WTERMSIG(status);
    } else if (WIFEXITED(status)) {
        r->code = WEXITSTATUS(status);
        if (end == JPT_SANDBOX_EXITED && r->code > 128 && r->code < 160) { /* bwrap's way to say signal */
            r->end = JPT_SANDBOX_SIGNALLED;
            r->code -= 128;
        }
    }
    return JPT_OK;
}

jpt_status jpt_sandbox_probe(jpt_error *err) {
    static int  known; /* 0 not yet, 1 yes, -1 no */
    static char why[256];
    if (known == 0) {
        jpt_sandbox_limits l = resolve(NULL);
        jpt_sandbox_result r = {0};
        jpt_error          e = {0};
        const char        *text = "import os\nassert os.listdir('/tmp') == [] and not os.path.exists('/etc/passwd')\nprint('confined')\n";
        jpt_status         st = run(jpt_str_z(text), &l, &r, &e);
        if (st == JPT_INTERRUPTED)
            return JPT_FAIL(err, INTERRUPTED, "interrupted");
        bool good = st == JPT_OK && r.end == JPT_SANDBOX_EXITED && r.code == 0 && r.out.n && strcmp(r.out.p, "confined\n") == 0;
        known = good ? 1 : -1;
        if (!good) {
            char *line = r.err.n ? r.err.p : e.msg;
            line[strcspn(line, "\n")] = '\0';
            snprintf(why, sizeof why, "%.200s", *line ? line : "the probe failed");
        }
        jpt_sandbox_result_fini(&r);
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
