/* From fork to the interpreter. */
#include "sandbox_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NOBODY = 65534 };

/* The runner.  Standard input is a memory file: two lengths, the program, its tests, a proof.  The program cannot read on by
 * input(): its standard input is /dev/null.  What the runner needs it holds before the program can put anything in its place; the
 * proof is read only after the tests went through, and is nowhere in memory before. */
static const char runner[] =
    "import os,sys,resource\n"
    "def run(processes,read=os.read,write=os.write,leave=os._exit,exec=exec,compile=compile,int=int,len=len):\n"
    " if processes: resource.setrlimit(resource.RLIMIT_NPROC,(processes,processes))\n"
    " fd=os.dup(0)\n"
    " null=os.open('/dev/null',os.O_RDONLY)\n"
    " os.dup2(null,0)\n"
    " os.close(null)\n"
    " flush=sys.stdout.flush\n"
    " def get(n):\n"
    "  b=b''\n"
    "  while len(b)<n:\n"
    "   c=read(fd,n-len(b))\n"
    "   if not c: break\n"
    "   b+=c\n"
    "  return b\n"
    " n,m=map(int,get(32).split())\n"
    " g={'__name__':'__main__'}\n"
    " program=get(n)\n"
    " if not m: os.close(fd)\n"
    " exec(compile(program,'program','exec'),g)\n"
    " if m:\n"
    "  exec(compile(get(m),'tests','exec'),g)\n"
    "  flush()\n"
    "  write(1,get(66))\n"
    "  leave(0)\n";

static void limit(int what, uint64_t soft, uint64_t hard) {
    struct rlimit r = {soft, hard};
    setrlimit(what, &r);
}

static _Noreturn void fail(const char *what, int why) {
    dprintf(2, "%s: %s\n", what, strerror(why));
    _exit(127);
}

static void bubblewrap(const sandbox_child *c) {
    char size[32], fd[16], code[sizeof runner + 32];
    fcntl(c->filter, F_SETFD, 0); /* of the host's open files only this one goes on to bwrap, which closes it after reading */
    snprintf(size, sizeof size, "%llu", (unsigned long long)c->limits->tmpfs_bytes);
    snprintf(fd, sizeof fd, "%d", c->filter);
    snprintf(code, sizeof code, "%srun(%d)\n", runner, c->limits->processes); /* counted per user: set inside, where the user is the sandbox's own */
    char *argv[] = {"bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--uid", "65534", "--gid", "65534",
                    "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
                    "--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/proc",
                    "--remount-ro", "/",
                    "--chdir", "/tmp", "--clearenv", "--setenv", "PATH", "/usr/bin", "--setenv", "PYTHONDONTWRITEBYTECODE", "1", "--setenv", "HOME", "/tmp",
                    "--hostname", "sandbox", "--seccomp", fd, "/usr/bin/python3", "-I", "-S", "-c", code, NULL};
    limit(RLIMIT_AS, c->limits->memory_bytes, c->limits->memory_bytes);
    /* --as-pid-1 makes the program PID 1 of its namespace: when it ends, all it started ends */
    execvp("bwrap", argv);
    fail("bwrap", errno);
}

static void landlock(const sandbox_child *c) {
    char  code[sizeof runner + 32];
    char *argv[] = {"python3", "-I", "-S", "-c", code, NULL};
    char *envp[] = {"PATH=/usr/bin", "PYTHONDONTWRITEBYTECODE=1", "HOME=/nonexistent", "LC_CTYPE=C.UTF-8", NULL};
    snprintf(code, sizeof code, "%srun(0)\n", runner); /* no RLIMIT_NPROC: it would count the user's other processes */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int rc = chdir("/") == 0 ? sandbox_landlock() : -errno;
    if (rc == 0)
        rc = sandbox_load_filter();
    if (rc != 0)
        fail("Landlock", -rc);
    limit(RLIMIT_AS, c->limits->memory_bytes, c->limits->memory_bytes); /* last: the filter was made on the heap */
    execve("/usr/bin/python3", argv, envp);
    fail("/usr/bin/python3", errno);
}

_Noreturn void sandbox_run_child(const sandbox_child *c) {
    const jpt_sandbox_limits *l = c->limits;
    pid_t                     parent = getppid();
    setpgid(0, 0);
    dup2(c->in, 0);
    dup2(c->out, 1);
    dup2(c->err, 2);
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
        for (int i = 3; i < 65536; i++)
            fcntl(i, F_SETFD, FD_CLOEXEC);
    if (c->way.as_nobody && geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0))
        fail("cannot become nobody", errno);
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_CPU, (uint64_t)ceil(l->cpu_s), (uint64_t)ceil(l->cpu_s)); /* the hard limit kills; PID 1 would ignore SIGXCPU */
    limit(RLIMIT_FSIZE, l->file_bytes, l->file_bytes);
    limit(RLIMIT_NOFILE, 64, 64);
    limit(RLIMIT_MEMLOCK, 0, 0);
    limit(RLIMIT_MSGQUEUE, 0, 0);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (c->way.kind == SANDBOX_LANDLOCK) {
        setsid();
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) /* jpt is gone already */
            _exit(127);
        landlock(c);
    }
    bubblewrap(c);
    _exit(127);
}
