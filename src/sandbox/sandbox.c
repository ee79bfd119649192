/* Confined runs of Python programs: bubblewrap + seccomp + rlimits, or, where user namespaces are off, Landlock + seccomp +
 * rlimits.  The program arrives as an anonymous memory file on the interpreter's standard input, so no file of the host is shared.
 *
 * With bubblewrap the program is an ordinary user inside; where root runs jpt, bwrap itself runs as nobody if the kernel lets nobody make
 * user namespaces.  (A mapped root is still root to /proc/sys, whose files ask for the user and not for a capability: /proc is
 * read-only for that reason.)  It is PID 1 of its namespace and may start threads but no process: nothing survives it, a fork bomb does not
 * start, and the limits of one process (memory, CPU) are the limits of all.
 *
 * With Landlock the program is the user (nobody for root) with nothing but /usr to read and nothing to write; what Landlock does not
 * rule over is closed by the filter.  It can see which files exist (stat), not what is in them.
 *
 * Not limited: how long it keeps one processor busy within cpu_s, and what a hole in the kernel would give.  A program that knows this
 * file can take the proof from the runner, as code and tests share an interpreter: the verdict holds against accidents and ordinary
 * tricks (early exits, printed successes, replaced builtins), not against a model trained to attack jpt. */
#include "sandbox_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
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

/* ---- input ---------------------------------------------------------------------------------------------------------- */

static bool put(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno != EINTR)
            return false;
        p += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return true;
}

/* What the runner (child.c) reads, from its start. */
static jpt_status make_input(jpt_str source, jpt_str tests, const char *proof, int *fd, jpt_error *err) {
    char header[40];
    *fd = memfd_create("jpt-program", MFD_CLOEXEC);
    snprintf(header, sizeof header, "%15zu %15zu\n", source.n, tests.n);
    bool ok = *fd >= 0 && put(*fd, header, 32) && put(*fd, source.p, source.n) && put(*fd, tests.p, tests.n) && put(*fd, proof, strlen(proof));
    if (ok && lseek(*fd, 0, SEEK_SET) == 0)
        return JPT_OK;
    int why = errno;
    if (*fd >= 0)
        close(*fd);
    return JPT_FAIL(err, SANDBOX, "cannot hand the program to the sandbox: %s", strerror(why));
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

static jpt_status run(const sandbox_way *way, jpt_str source, jpt_str tests, const char *proof, const jpt_sandbox_limits *l, jpt_sandbox_result *r, jpt_error *err) {
    int filter = -1, input = -1, out[2] = {-1, -1}, errs[2] = {-1, -1};
    r->cpu_s = NAN;
    if (way->kind == SANDBOX_BUBBLEWRAP)
        JPT_TRY(sandbox_make_filter(&filter, err));
    jpt_status st = make_input(source, tests, proof, &input, err);
    if (st != JPT_OK) {
        close_fd(&filter);
        return st;
    }
    bool          ok = pipe2(out, O_CLOEXEC) == 0 && pipe2(errs, O_CLOEXEC) == 0;
    double        t0 = jpt_now_s(), deadline_s = t0 + l->wall_s;
    sandbox_child child = {.way = *way, .limits = l, .in = input, .out = out[1], .err = errs[1], .filter = filter};
    pid_t         pid = ok ? fork() : -1;
    int           why = errno;
    if (pid == 0)
        sandbox_run_child(&child);
    close_fd(&filter);
    close_fd(&input);
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

/* ---- which way ------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int             known; /* 0 not yet, 1 yes, -1 no */
static sandbox_way     chosen;
static char            refusal[256];

static const char *const kind_name[] = {[SANDBOX_BUBBLEWRAP] = "bubblewrap", [SANDBOX_LANDLOCK] = "Landlock"};

static const char *const probe_text[] = {
    [SANDBOX_BUBBLEWRAP] = "import os\nassert os.listdir('/tmp') == [] and not os.path.exists('/etc/passwd')\nprint('confined')\n",
    [SANDBOX_LANDLOCK] = "import os, ctypes\n"
                         "def no(f):\n  try: f()\n  except PermissionError: return True\n"
                         "assert no(lambda: open('/etc/passwd')) and no(lambda: os.listdir('/')) and no(lambda: open('/tmp/jpt-probe', 'w'))\n"
                         "assert no(os.fork) and no(lambda: os.kill(os.getppid(), 0)) and ctypes.CDLL(None).socket(1, 1, 0) == -1\nprint('confined')\n",
};

/* Does a program come through, confined?  why: one line when not. */
static jpt_status try_way(const sandbox_way *way, char why[120], jpt_error *err) {
    jpt_sandbox_limits l = resolve(&(jpt_sandbox_limits){.wall_s = 30}); /* a busy machine is no reason to refuse */
    jpt_sandbox_result r = {0};
    jpt_error          e = {0};
    jpt_status         st = run(way, jpt_str_z(probe_text[way->kind]), (jpt_str){"", 0}, "", &l, &r, &e);
    why[0] = '\0';
    if (st == JPT_INTERRUPTED)
        JPT_FAIL(err, INTERRUPTED, "interrupted");
    else if (!(st == JPT_OK && r.end == JPT_SANDBOX_EXITED && r.code == 0 && r.out.n && strcmp(r.out.p, "confined\n") == 0)) {
        char *line = r.err.n ? r.err.p : e.msg;
        while (strchr(line, '\n') && strchr(line, '\n')[1]) /* a traceback's last line says most */
            line = strchr(line, '\n') + 1;
        line[strcspn(line, "\n")] = '\0';
        snprintf(why, 120, "%.60s%s%.100s", strncmp(line, kind_name[way->kind], 5) == 0 || strncmp(line, "bwrap", 5) == 0 ? "" : kind_name[way->kind],
                 strncmp(line, kind_name[way->kind], 5) == 0 || strncmp(line, "bwrap", 5) == 0 ? "" : ": ", *line ? line : "the probe failed");
    }
    jpt_sandbox_result_fini(&r);
    return st == JPT_INTERRUPTED ? st : JPT_OK;
}

static jpt_status find_way(jpt_error *err) {
    static const sandbox_way ways[] = {{SANDBOX_BUBBLEWRAP, true}, {SANDBOX_BUBBLEWRAP, false}, {SANDBOX_LANDLOCK, true}};
    const char              *want = getenv("JPT_SANDBOX");
    bool                     any = !want || !*want || strcmp(want, "auto") == 0, named = any;
    char                     why[120];
    refusal[0] = '\0';
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool this_one = any || strcasecmp(want, kind_name[ways[i].kind]) == 0;
        named = named || this_one;
        if (!this_one || (!ways[i].as_nobody && geteuid() != 0)) /* for a user both ways of bubblewrap are one */
            continue;
        JPT_TRY(try_way(&ways[i], why, err));
        if (!why[0]) {
            chosen = ways[i];
            known = 1;
            return JPT_OK;
        }
        if (ways[i].as_nobody || geteuid() != 0) {
            size_t n = strlen(refusal);
            snprintf(refusal + n, sizeof refusal - n, "%s%s", n ? "; " : "", why);
        }
    }
    if (!named)
        snprintf(refusal, sizeof refusal, "JPT_SANDBOX=%.40s: expected auto, bubblewrap or landlock", want);
    known = -1;
    return JPT_OK;
}

jpt_status jpt_sandbox_probe(jpt_error *err) {
    jpt_status st = JPT_OK;
    pthread_mutex_lock(&lock);
    if (known == 0)
        st = find_way(err);
    int is = known;
    pthread_mutex_unlock(&lock);
    if (st != JPT_OK || is > 0)
        return st;
    return JPT_FAIL(err, SANDBOX, "generated code cannot be confined here, so it is not run (%s); install bubblewrap and python3, and allow user namespaces or Landlock",
                    refusal);
}

const char *jpt_sandbox_mechanism(void) { return jpt_sandbox_probe(NULL) == JPT_OK ? kind_name[chosen.kind] : NULL; }

/* ---- the public face ----------------------------------------------------------------------------------------------------- */

jpt_status jpt_sandbox_python(jpt_str source, const jpt_sandbox_limits *limits, jpt_sandbox_result *out, jpt_error *err) {
    *out = (jpt_sandbox_result){0};
    JPT_TRY(jpt_sandbox_probe(err));
    jpt_sandbox_limits l = resolve(limits);
    return run(&chosen, source, (jpt_str){"", 0}, "", &l, out, err);
}

jpt_status jpt_sandbox_test(jpt_str program, jpt_str tests, const jpt_sandbox_limits *limits, jpt_sandbox_result *out, jpt_error *err) {
    uint8_t secret[32];
    char    proof[67];
    *out = (jpt_sandbox_result){0};
    JPT_TRY(jpt_sandbox_probe(err));
    if (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret)
        return JPT_FAIL(err, SANDBOX, "no random numbers from the system: %s", strerror(errno));
    proof[0] = '\n';
    for (int i = 0; i < 32; i++)
        snprintf(proof + 1 + 2 * i, 3, "%02x", secret[i]);
    memcpy(proof + 65, "\n", 2);
    jpt_sandbox_limits l = resolve(limits);
    jpt_status         st = run(&chosen, program, tests.n ? tests : jpt_str_z("\n"), proof, &l, out, err);
    size_t             n = 66;
    out->passed = st == JPT_OK && out->end == JPT_SANDBOX_EXITED && out->code == 0 && out->out.n >= n && memcmp(out->out.p + out->out.n - n, proof, n) == 0;
    if (out->passed) {
        out->out.n -= n;
        out->out.p[out->out.n] = '\0';
    }
    return st;
}
