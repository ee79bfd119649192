/* Hostile programs as a model might write them, several at a time, under bubblewrap and under Landlock: none gets out, none hangs,
 * none outlives its run, and each is scored as failed.  A program that gets anywhere prints ESCAPED.  77 where neither mechanism works. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jpt/sandbox.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* CANARY is a file of the host, open to all, beside a results file RESULTS; SOCKET an abstract socket that listens. */
#define TRY "import os, sys, time, ctypes, signal\nC = ctypes.CDLL(None, use_errno=True)\ndef escaped(what=''): os.write(1, b'ESCAPED %s\\n' % str(what).encode())\n" \
            "def attempt(f):\n  try: f(); escaped(f)\n  except BaseException as e: pass\n"

static const struct hostile {
    const char *name, *program;
    const char *tests; /* NULL: a test that only an honest answer passes */
} corpus[] = {
    /* processes */
    {"fork bomb", TRY "while True:\n  os.fork(); escaped()\n", NULL},
    {"fork by system calls", TRY "for n in (56, 57, 58, 435):\n  if C.syscall(n, 17, 0, 0, 0, 0) >= 0: escaped(n)\n", NULL},
    {"32-bit system calls", TRY "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b802000000cd80c3'))\n" /* mov eax, 2 (fork); int 0x80 */
                            "if ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))() >= 0: escaped()\n", NULL},
    {"thread bomb", TRY "import threading\nn = 0\ntry:\n  while True: threading.Thread(target=time.sleep, args=(1000,)).start(); n += 1\nexcept BaseException: pass\nif n > 500: escaped(n)\n", NULL},
    {"subprocess", TRY "import subprocess\nattempt(lambda: subprocess.run(['/usr/bin/id'], check=True))\n", NULL},
    {"shell", TRY "if os.system('true') == 0: escaped()\n", NULL},
    {"daemon", TRY "def f():\n  if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\nattempt(f)\n", NULL},
    {"another interpreter that sleeps", TRY "os.execv('/usr/bin/python3', ['python3', '-I', '-S', '-c', 'import time; time.sleep(1000)'])\n", NULL},
    {"another interpreter that succeeds", TRY "os.execv('/usr/bin/true', ['true'])\n", NULL},
    {"cuts the tie to its guard", TRY "if C.prctl(1, 0, 0, 0, 0) == 0 or C.syscall(157, 1, 0, 0, 0, 0) == 0: escaped()\ntime.sleep(1000)\n", NULL},
    {"vfork by libc", TRY "if C.vfork() >= 0: escaped()\n", NULL},
    {"multiprocessing", TRY "import multiprocessing\ndef f():\n  p = multiprocessing.get_context('fork').Process(target=print); p.start()\nattempt(f)\n", NULL},
    /* files */
    {"writes a host file", TRY "attempt(lambda: open('CANARY', 'a').write('x'))\n", NULL},
    {"reads a results file", TRY "attempt(lambda: os.write(1, open('RESULTS', 'rb').read()))\n", NULL},
    {"truncates and removes", TRY "for f in (os.truncate, ): attempt(lambda: f('CANARY', 0))\nattempt(lambda: os.unlink('CANARY'))\nattempt(lambda: os.rename('CANARY', 'CANARY.x'))\n", NULL},
    {"modes, owners, times", TRY "attempt(lambda: os.chmod('CANARY', 0))\nattempt(lambda: os.utime('CANARY', (0, 0)))\nattempt(lambda: os.chown('CANARY', os.getuid(), os.getgid()))\nattempt(lambda: os.setxattr('CANARY', 'user.x', b'1'))\n", NULL},
    {"passwords", TRY "for p in ('/etc/passwd', '/etc/shadow', '/root/.ssh/id_rsa', '/etc/hostname'): attempt(lambda: open(p).read())\n", NULL},
    {"lists folders", TRY "for p in ('/home', '/root', '/etc', '/var', '/sys', '/work', '/tmp/..' if os.path.exists('/etc/passwd') else '/nonexistent'): attempt(lambda: os.listdir(p))\n", NULL},
    {"writes /usr", TRY "attempt(lambda: open('/usr/x', 'w'))\nattempt(lambda: open('/usr/bin/python3', 'r+b'))\nattempt(lambda: os.mkdir('/usr/lib/x'))\n", NULL},
    {"symbolic link", TRY "import tempfile\ndef f():\n  os.symlink('CANARY', '/tmp/jpt-link-%d' % os.getpid()); open('/tmp/jpt-link-%d' % os.getpid(), 'a').write('x')\nattempt(f)\n", NULL},
    {"hard link", TRY "attempt(lambda: os.link('CANARY', '/tmp/jpt-hard'))\nattempt(lambda: os.link('/usr/bin/python3', '/tmp/jpt-hard2'))\n", NULL},
    {"O_TMPFILE", TRY "for d in ('/var/tmp', '/', '/usr', '/dev/shm'): attempt(lambda: os.open(d, os.O_TMPFILE | os.O_RDWR, 0o600))\n", NULL},
    {"sparse file", TRY "def f():\n  g = open('/tmp/sparse', 'wb'); g.truncate(1 << 40)\nattempt(f)\ndef h():\n  m = os.memfd_create('x'); os.ftruncate(m, 1 << 40)\nattempt(h)\n", NULL},
    {"fills /tmp", TRY "n = 0\ntry:\n  for i in range(10000): open('/tmp/f%d' % i, 'wb').write(bytes(1 << 20)); n += 1\nexcept OSError: pass\nif n > 64: escaped(n)\n", NULL},
    {"fills memory files", TRY "n = 0\ntry:\n  for i in range(10000):\n    f = os.memfd_create('x')\n    for k in range(64): n += os.write(f, bytes(1 << 20))\nexcept OSError: pass\nif n > 128 << 20: escaped(n)\n", NULL},
    {"devices", TRY "for p in ('/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/nvidia0', '/dev/fuse', '/dev/kvm'): attempt(lambda: open(p, 'rb').read(1))\nattempt(lambda: os.mknod('/tmp/n', 0o20666, os.makedev(1, 1)))\n", NULL},
    {"watches the host", TRY "n = C.inotify_init1(0)\nif n >= 0 and C.inotify_add_watch(n, b'CANARY', 0xfff) >= 0: escaped()\n", NULL},
    {"file handles", TRY "if C.syscall(304, -100, b'CANARY', 0, 0, 0) >= 0 or C.syscall(303, -100, b'/', 0, 0, 0) >= 0: escaped()\n", NULL},
    {"inherited descriptors", TRY "for f in range(4, 1024):\n  try: os.read(f, 1); escaped(f)\n  except OSError: pass\n", NULL},
    {"climbs out of the root", TRY "for i in range(20): os.chdir('..')\nattempt(lambda: open('etc/passwd').read())\n", NULL},
    /* /proc, kernel, privileges */
    {"/proc of others", TRY "for p in ('/proc/%d/%s' % (os.getppid() or 2, x) for x in ('environ', 'mem', 'maps', 'fd/0', 'root/etc/passwd', 'cwd')): attempt(lambda: open(p, 'rb').read(1))\n"
                        "mine = str(os.getpid())\nif os.path.isdir('/proc/self'):\n  try: [escaped(p) for p in os.listdir('/proc') if p.isdigit() and p not in (mine, '1')]\n  except OSError: pass\n", NULL},
    {"kernel settings", TRY "for p in ('kernel/core_pattern', 'kernel/hostname', 'vm/drop_caches'): attempt(lambda: open('/proc/sys/' + p, 'w').write('x'))\nattempt(lambda: open('/proc/sysrq-trigger', 'w').write('b'))\n", NULL},
    {"own memory through /proc", TRY "attempt(lambda: open('/proc/self/oom_score_adj', 'w').write('-1000'))\nattempt(lambda: open('/proc/1/mem', 'r+b') if os.getpid() != 1 else 1 / 0)\n", NULL},
    {"set user id", TRY "if os.getuid() == 0: escaped('root')\nattempt(lambda: os.setuid(0))\nattempt(lambda: os.setresuid(0, 0, 0))\nattempt(lambda: os.setgroups([0]))\n", NULL},
    {"setuid programs", TRY "for p in ('/usr/bin/su', '/usr/bin/passwd', '/usr/bin/mount', '/usr/bin/bwrap'):\n  if os.path.exists(p): os.execv(p, [p, '--help' if 'bwrap' not in p else '--ro-bind'])\n", NULL},
    {"mount", TRY "if C.mount(b'none', b'/tmp', b'tmpfs', 0, 0) == 0 or C.syscall(428, -100, b'/', 1) >= 0 or C.syscall(430, b'tmpfs', 0) >= 0: escaped()\n", NULL},
    {"chroot", TRY "attempt(lambda: os.chroot('/usr'))\nif C.syscall(155, b'/', b'/') == 0: escaped()\n", NULL},
    {"new namespaces", TRY "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000):\n  if C.unshare(flag) == 0: escaped(flag)\nif C.setns(0, 0) == 0: escaped()\n", NULL},
    {"ptrace", TRY "for pid in (os.getppid(), 1, 0):\n  if C.ptrace(16, pid, 0, 0) == 0 or C.ptrace(0, 0, 0, 0) == 0: escaped(pid)\n", NULL},
    {"memory of others", TRY "b = ctypes.create_string_buffer(8)\nif C.process_vm_readv(os.getppid() or 1, b, 1, b, 1, 0) >= 0: escaped()\n", NULL},
    {"io_uring, bpf, perf, keys, userfaultfd", TRY "for n, a in ((425, 8), (321, 0), (298, 0), (250, 0), (248, 0), (323, 0)):\n  if C.syscall(n, a, 0, 0, 0, 0) >= 0: escaped(n)\n", NULL},
    {"limits raised", TRY "import resource\nfor r in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):\n  attempt(lambda: resource.setrlimit(r, (1 << 40, 1 << 40)))\n", NULL},
    {"limits of others", TRY "import resource\nattempt(lambda: resource.prlimit(os.getppid() or 2, resource.RLIMIT_CPU, (1, 1)))\nattempt(lambda: os.setpriority(os.PRIO_PROCESS, os.getppid() or 2, 19))\nattempt(lambda: os.sched_setaffinity(os.getppid() or 2, [0]))\n", NULL},
    {"shared memory and queues", TRY "if C.shmget(0, 4096, 0o1666) >= 0 or C.msgget(0, 0o1666) >= 0 or C.semget(0, 1, 0o1666) >= 0: escaped()\n", NULL},
    {"terminal input", TRY "import fcntl\nfor f in (0, 1, 2): attempt(lambda: fcntl.ioctl(f, 0x5412, b'x'))\nattempt(lambda: os.open('/dev/tty', os.O_RDWR))\n", NULL},
    /* network */
    {"tcp", TRY "import socket\nattempt(lambda: socket.create_connection(('127.0.0.1', 22), 1))\n", NULL},
    {"udp and names", TRY "import socket\nattempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53)))\nattempt(lambda: socket.getaddrinfo('example.org', 80))\n", NULL},
    {"abstract socket", TRY "import socket\ndef f():\n  s = socket.socket(socket.AF_UNIX); s.connect('\\0SOCKET')\nattempt(f)\n", NULL},
    {"raw and netlink sockets", TRY "import socket\nattempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))\nattempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))\nattempt(socket.socketpair)\n", NULL},
    /* signals */
    {"kill -1", TRY "try: os.kill(-1, 9)\nexcept OSError: pass\ntry: os.kill(-1, 15)\nexcept OSError: pass\n", NULL},
    {"kills its parent", TRY "for p in (os.getppid(), PARENT):\n  try:\n    if p > 1: os.kill(p, 9); escaped(p)\n  except OSError: pass\n", NULL},
    {"kills its group", TRY "signal.signal(15, signal.SIG_IGN)\nattempt(lambda: os.killpg(PARENT, 15))\n", NULL},
    {"ignores all signals", TRY "for s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\nwhile True: pass\n", NULL},
    {"stops itself", TRY "os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(1000)\n", NULL},
    {"crash", TRY "ctypes.string_at(0)\n", NULL},
    {"abort", TRY "os.abort()\n", NULL},
    /* resources */
    {"endless loop", "while True: pass\n", NULL},
    {"sleep", "import time\ntime.sleep(1000)\n", NULL},
    {"closes its output and sleeps", "import os, time\nos.closerange(0, 100)\ntime.sleep(1000)\n", NULL},
    {"endless output", "while True: print('passed' * 100)\n", NULL},
    {"endless errors", "import sys\nwhile True: sys.stderr.write('passed' * 100)\n", NULL},
    {"memory bomb", "x = []\nwhile True: x.append(bytearray(1 << 20))\n", NULL},
    {"memory at once", "x = bytearray(1 << 44)\n", NULL},
    {"reads /dev/zero", "x = open('/dev/zero', 'rb').read()\n", NULL},
    {"compressed bomb", "import zlib\nx = zlib.compress(bytes(1 << 24), 9)\nwhile True: y = [zlib.decompress(x) for i in range(1000)]\n", NULL},
    {"huge recursion", "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(n): return f(n + 1) + 1\nf(0)\n", NULL},
    {"huge number", "x = 9 ** 9 ** 9\n", NULL},
    {"endless pattern", "import re\nre.match('(a+)+$', 'a' * 64 + 'b')\n", NULL},
    /* a forged success */
    {"exit before the tests", "import sys\nsys.exit(0)\n", NULL},
    {"os._exit(0) before the tests", "import os\nos._exit(0)\n", NULL},
    {"exits within the test", "import os\ndef answer(x): os._exit(0)\n", NULL},
    {"prints what success looks like", "import os\nprint('passed\\n' + '0' * 64)\nprint('OK', flush=True)\nos._exit(0)\n", NULL},
    {"looks for the proof", TRY "import re, gc\nf = sys._getframe()\nwhile f:\n  for c in list(f.f_code.co_consts) + list(f.f_locals.values()) + list(f.f_globals.values()):\n"
                            "    for h in re.findall('[0-9a-f]{64}', c if isinstance(c, str) else c.decode('latin-1') if isinstance(c, bytes) else ''): os.write(1, ('\\n%s\\n' % h).encode()); os._exit(0)\n  f = f.f_back\n"
                            "for o in gc.get_objects():\n  for h in re.findall('[0-9a-f]{64}', str(o)[:100000]) if isinstance(o, (dict, list, tuple)) else []: os.write(1, ('\\n%s\\n' % h).encode()); os._exit(0)\n", NULL},
    {"replaces what runs the tests", "import builtins, os, sys\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a: ''\nos.read = lambda *a: b''\n", NULL},
    {"raises in the test", "def answer(x): raise SystemExit(0)\n", NULL},
    {"replaces assert's exception", "import builtins\nbuiltins.AssertionError = type('Quiet', (BaseException,), {})\ndef answer(x): return 0\n", NULL},
    {"exit hook", "import atexit, os\natexit.register(lambda: os._exit(0))\nanswer = 1 / 0\n", NULL},
    {"reads the tests as its input", "x = input()\nanswer = lambda n: 42\n", NULL},
    {"tracing out of the test", "import sys\ndef trace(f, e, a): raise SystemExit(0)\nsys.settrace(trace)\ndef answer(x): return 0\n", NULL},
};
enum { N = sizeof corpus / sizeof *corpus, AT_A_TIME = 8 }; /* those that sleep through their wall limit lie beside each other */

static char            folder[64], canary[100], results[100], abstract[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t          next;
static int             bad, ends[JPT_SANDBOX_RESOURCE + 1];
static pid_t           parent;

static void say(const char *name, const char *what, const jpt_sandbox_result *r) {
    pthread_mutex_lock(&lock);
    bad++;
    fprintf(stderr, "FAIL: %s: %s\n  end %d, code %d\n  stdout: %.300s\n  stderr: %.300s\n", name, what, (int)r->end, r->code, r->out.p ? r->out.p : "", r->err.p ? r->err.p : "");
    pthread_mutex_unlock(&lock);
}

static void replace(jpt_buf *b, const char *from, const char *to) {
    for (char *at; (at = strstr(b->p, from));) {
        jpt_buf c = {0};
        jpt_buf_add(&c, b->p, (size_t)(at - b->p));
        jpt_buf_addz(&c, to);
        jpt_buf_addz(&c, at + strlen(from));
        jpt_buf_fini(b);
        *b = c;
    }
}

static void run_one(const struct hostile *h) {
    static const jpt_sandbox_limits limits = {.wall_s = 6, .cpu_s = 1, .memory_bytes = 192u << 20};
    jpt_sandbox_result              r = {0};
    jpt_error                       err = {0};
    jpt_buf                         program = {0};
    char                            pid[16];
    snprintf(pid, sizeof pid, "%d", (int)parent);
    jpt_buf_addz(&program, h->program);
    replace(&program, "CANARY", canary);
    replace(&program, "RESULTS", results);
    replace(&program, "SOCKET", abstract);
    replace(&program, "PARENT", pid);
    double t0 = jpt_now_s();
    if (jpt_sandbox_test((jpt_str){program.p, program.n}, jpt_str_z(h->tests ? h->tests : "assert answer(1) == 42\n"), &limits, &r, &err) != JPT_OK) {
        pthread_mutex_lock(&lock);
        bad++;
        fprintf(stderr, "FAIL: %s: %s\n", h->name, err.msg);
        pthread_mutex_unlock(&lock);
    } else {
        if (r.passed)
            say(h->name, "is scored as passed", &r);
        if (r.out.p && (strstr(r.out.p, "ESCAPED") || strstr(r.out.p, "SECRET")))
            say(h->name, "got out", &r);
        if (jpt_now_s() - t0 > limits.wall_s + 20)
            say(h->name, "hung", &r);
        pthread_mutex_lock(&lock);
        ends[r.end]++;
        pthread_mutex_unlock(&lock);
    }
    jpt_sandbox_result_fini(&r);
    jpt_buf_fini(&program);
}

static void *work(void *ud) {
    (void)ud;
    for (;;) {
        pthread_mutex_lock(&lock);
        size_t i = next++;
        pthread_mutex_unlock(&lock);
        if (i >= N)
            return NULL;
        run_one(&corpus[i]);
    }
}

/* What programs could have changed outside, and who is still there. */
static void look_around(void) {
    char        text[16] = "";
    struct stat sb;
    FILE       *f = fopen(canary, "r");
    if (!f || !fgets(text, sizeof text, f) || strcmp(text, "canary\n") != 0 || stat(canary, &sb) != 0 || (sb.st_mode & 07777) != 0666 || sb.st_mtime < 1000) {
        bad++;
        fprintf(stderr, "FAIL: the host's file was touched\n");
    }
    if (f)
        fclose(f);
    DIR *d = opendir(folder);
    int  n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    if (n != 2) {
        bad++;
        fprintf(stderr, "FAIL: %d files beside the host's two\n", n - 2);
    }
    /* this process adopts what outlives its parent: nothing may be left */
    pid_t left = 0;
    for (int i = 0; i < 100 && (left = waitpid(-1, NULL, WNOHANG)) >= 0; i++)
        usleep(20000);
    if (left >= 0) {
        bad++;
        fprintf(stderr, "FAIL: a process outlived its run\n");
    }
}

static int listen_abstract(void) {
    /* by the shell's python, so that this program needs no socket code of its own: it listens until killed */
    char script[300];
    snprintf(script, sizeof script, "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind('\\0%s')\ns.listen()\nsys.stdout.write('.')\nsys.stdout.flush()\nsys.stdin.read()", abstract);
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return -1;
    if (fork() == 0) {
        setenv("JPT_SCRIPT", script, 1);
        dup2(in[0], 0);
        dup2(out[1], 1);
        execlp("python3", "python3", "-c", "import os; exec(os.environ['JPT_SCRIPT'])", NULL);
        _exit(127);
    }
    char c;
    close(in[0]);
    close(out[1]);
    if (read(out[0], &c, 1) != 1)
        return -1;
    close(out[0]);
    return in[1]; /* closing it ends the listener */
}

static int run_corpus(void) {
    jpt_error err = {0};
    if (jpt_sandbox_probe(&err) != JPT_OK) {
        fprintf(stderr, "skipped: %s\n", err.msg);
        return 77;
    }
    snprintf(folder, sizeof folder, "/var/tmp/jpt-hostile-XXXXXX");
    if (!mkdtemp(folder))
        return 1;
    chmod(folder, 0777);
    snprintf(canary, sizeof canary, "%s/canary", folder);
    snprintf(results, sizeof results, "%s/results.db", folder);
    snprintf(abstract, sizeof abstract, "jpt-hostile-%d", (int)getpid());
    jpt_file_write(canary, "canary\n", 7, NULL);
    jpt_file_write(results, "SECRET\n", 7, NULL);
    chmod(canary, 0666);
    chmod(results, 0666);
    setenv("JPT_SECRET", "SECRET", 1);
    int inherited = open(results, O_RDWR), listener = listen_abstract(); /* open and not close-on-exec */
    parent = getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pthread_t thread[AT_A_TIME];
    double    t0 = jpt_now_s();
    for (int i = 0; i < AT_A_TIME; i++)
        pthread_create(&thread[i], NULL, work, NULL);
    for (int i = 0; i < AT_A_TIME; i++)
        pthread_join(thread[i], NULL);
    close(listener);
    close(inherited);
    look_around();
    printf("%s: %d hostile programs, %d at a time, %.0f s: %d ended by themselves, %d by a signal, %d by the clock, %d by their output, %d by a limit; %d bad\n", jpt_sandbox_mechanism(), (int)N,
           AT_A_TIME, jpt_now_s() - t0, ends[JPT_SANDBOX_EXITED], ends[JPT_SANDBOX_SIGNALLED], ends[JPT_SANDBOX_TIMEOUT], ends[JPT_SANDBOX_OUTPUT_LIMIT], ends[JPT_SANDBOX_RESOURCE], bad);
    unlink(canary);
    unlink(results);
    rmdir(folder);
    return bad ? 1 : 0;
}

static int again(const char *mechanism) {
    char    self[1000], command[1200];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    snprintf(command, sizeof command, "JPT_SANDBOX=%s '%s' corpus", mechanism, self);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void *of_landlock(void *status) {
    *(int *)status = again("landlock");
    return NULL;
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc == 2)
        return run_corpus();
    pthread_t other;
    int       first, second = 1;
    if (pthread_create(&other, NULL, of_landlock, &second) != 0) /* both at once: most of the time is waiting for limits */
        return 1;
    first = again("bubblewrap");
    pthread_join(other, NULL);
    if ((first && first != 77) || (second && second != 77))
        return 1;
    return first == 77 && second == 77 ? 77 : 0;
}
