/* What the sandbox promises, under bubblewrap and under Landlock (this program runs itself for each).  Hostile programs by the dozen are
 * in test_hostile.c.  A mechanism that the machine has not is said so; 77 when it has neither. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <jpt/sandbox.h>
#include <math.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool landlock; /* which mechanism is tested */

static const jpt_sandbox_limits tight = {.wall_s = 20, .cpu_s = 1, .memory_bytes = 128u << 20, .tmpfs_bytes = 4u << 20, .output_bytes = 20000};

static jpt_sandbox_result run_for(double wall_s, const char *program) {
    jpt_sandbox_limits l = tight;
    jpt_sandbox_result r;
    jpt_error          err = {0};
    double             t0 = jpt_now_s();
    l.wall_s = wall_s;
    if (jpt_sandbox_python(jpt_str_z(program), &l, &r, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_true(jpt_now_s() - t0 < wall_s + 20);
    return r;
}

static jpt_sandbox_result run(const char *program) { return run_for(tight.wall_s, program); }

/* Runs to the end with status 0 and prints exactly `want`. */
static void expect_output(const char *program, const char *want) {
    jpt_sandbox_result r = run(program);
    if (r.end != JPT_SANDBOX_EXITED || r.code != 0 || !r.out.p || strcmp(r.out.p, want) != 0)
        fail_msg("end %d code %d\nstdout: %s\nstderr: %s", (int)r.end, r.code, r.out.p ? r.out.p : "", r.err.p ? r.err.p : "");
    jpt_sandbox_result_fini(&r);
}

static void passes(void **state) {
    (void)state;
    jpt_sandbox_result r = run(landlock ? "import math, collections, re, json, random, threading\n" /* no place to write to */
                                          "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\nprint(math.gcd(12, 18))\n"
                                        : "import math, collections, re, json, random, threading\n"
                                          "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
                                          "open('/tmp/x', 'w').write('y'); assert open('/tmp/x').read() == 'y'\nprint(math.gcd(12, 18))\n");
    assert_int_equal(r.end, JPT_SANDBOX_EXITED);
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out.p, "thread\n6\n");
    assert_true(r.cpu_s > 0 && r.cpu_s < 2 && r.wall_s > 0);
    printf("a plain program: %.1f ms wall, %.1f ms CPU\n", 1e3 * r.wall_s, 1e3 * r.cpu_s);
    jpt_sandbox_result_fini(&r);
}

static void failures_are_told(void **state) {
    (void)state;
    jpt_sandbox_result r = run("assert 1 + 1 == 3, 'sum'\n");
    assert_int_equal(r.end, JPT_SANDBOX_EXITED);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err.p, "AssertionError: sum"));
    jpt_sandbox_result_fini(&r);
    r = run("def broken(:\n");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err.p, "SyntaxError"));
    jpt_sandbox_result_fini(&r);
    r = run("import sys; sys.exit(7)");
    assert_int_equal(r.code, 7);
    jpt_sandbox_result_fini(&r);
    r = run("import ctypes; ctypes.string_at(0)");
    assert_int_equal(r.end, JPT_SANDBOX_SIGNALLED);
    assert_int_equal(r.code, 11);
    jpt_sandbox_result_fini(&r);
}

static void a_large_program_arrives_whole(void **state) {
    (void)state;
    jpt_buf b = {0};
    for (int i = 0; i < 40000; i++)
        jpt_buf_printf(&b, "x = %d\n", i);
    jpt_buf_addz(&b, "print(x)\n");
    expect_output(b.p, "39999\n");
    jpt_buf_fini(&b);
}

static void infinite_loop(void **state) {
    (void)state;
    jpt_sandbox_result r = run("while True: pass");
    assert_int_equal(r.end, JPT_SANDBOX_RESOURCE); /* one CPU second, before twenty of wall */
    jpt_sandbox_result_fini(&r);
}

/* Processes of the host whose command line holds `mark`. */
static int survivors(const char *mark) {
    int  n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        char    path[300], line[8192];
        snprintf(path, sizeof path, "/proc/%s/environ", e->d_name);
        int     fd = e->d_name[0] >= '0' && e->d_name[0] <= '9' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        ssize_t got = fd >= 0 ? read(fd, line, sizeof line) : 0;
        n += got > 0 && memmem(line, (size_t)got, mark, strlen(mark)) != NULL;
        if (fd >= 0)
            close(fd);
    }
    if (d)
        closedir(d);
    return n;
}

static void a_sleeper_is_killed_and_gone(void **state) {
    (void)state;
    /* tries first to cut the tie to its guard */
    jpt_sandbox_result r = run_for(2, "import ctypes, time, os, signal\nl = ctypes.CDLL(None)\nl.prctl(1, 0, 0, 0, 0)\n"
                               "[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 13, 15)]\nos.execve('/usr/bin/python3', ['python3', '-I', '-S', '-c', "
                               "'import time\\ntime.sleep(1000)'], {'JPT_SANDBOX_SLEEPER': 'yes'})\n");
    assert_int_equal(r.end, JPT_SANDBOX_TIMEOUT);
    assert_true(isnan(r.cpu_s));
    jpt_sandbox_result_fini(&r);
    usleep(200000);
    assert_int_equal(survivors("JPT_SANDBOX_SLEEPER=yes"), 0);
}

static void no_processes(void **state) {
    (void)state;
    expect_output("import os\ntry:\n  while True: os.fork()\nexcept OSError as e: print('no fork', e.errno)\n", "no fork 1\n");
    expect_output("import subprocess\ntry: subprocess.run(['/usr/bin/true'])\nexcept OSError as e: print('no child', e.errno)\n", "no child 1\n");
    expect_output("import os\ntry:\n  if os.fork() == 0:\n    os.setsid(); os.fork()\nexcept OSError: print('no daemon')\n", "no daemon\n");
    /* threads are bounded by the memory limit or the process limit */
    expect_output("import threading, time\nn = 0\ntry:\n  while n < 100000:\n    threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start(); n += 1\n"
                  "except (RuntimeError, MemoryError): print('bounded', n < 200)\n", "bounded True\n");
}

static void memory_bomb(void **state) {
    (void)state;
    expect_output("try: x = bytearray(1 << 30)\nexcept MemoryError: print('no memory')\n", "no memory\n");
    jpt_sandbox_result r = run("x = []\nwhile True: x.append('a' * 1000000)\n");
    assert_true((r.end == JPT_SANDBOX_EXITED && r.code == 1) || r.end == JPT_SANDBOX_RESOURCE || r.end == JPT_SANDBOX_SIGNALLED);
    jpt_sandbox_result_fini(&r);
}

static void files_stay_inside(void **state) {
    (void)state;
    char path[] = "/var/tmp/jpt-sandbox-XXXXXX", program[2000];
    int  fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "secret", 6), 6); /* open and not close-on-exec: must not reach the program either */
    snprintf(program, sizeof program,
             "import os\nseen = []\n"
             "def there(p):\n" /* Landlock lets see that a file is there, nothing more */
             "  try: return bool(open(p).read(1)) if not os.path.isdir(p) else bool(os.listdir(p))\n  except OSError: return False\n"
             "for p in ['/etc/passwd', '/etc/shadow', '/root', '/home', '/var', '/sys', '/', '%s']:\n"
             "  if (there(p) if %d else p != '/' and os.path.exists(p)): seen.append(p)\n"
             "for f in range(3, 200):\n  try: os.read(f, 1); seen.append(f)\n  except OSError: pass\n"
             "for p in ['%s', '/usr/x', '/usr/bin/python3', '/x', '/dev/x', '/dev/shm/x', '/etc/x', '/proc/sys/kernel/hostname', '/proc/self/comm']:\n"
             "  try: open(p, 'ab').write(b'x'); seen.append('wrote ' + p)\n  except OSError: pass\n"
             "print(seen, sorted(os.environ) if not [k for k in os.environ if k.startswith('JPT')] else 'environment')\n",
             path, landlock, path);
    jpt_sandbox_result r = run(program);
    unlink(path);
    close(fd);
    if (r.code != 0 || strncmp(r.out.p, "[] [", 4) != 0)
        fail_msg("code %d: %s%s", r.code, r.out.p ? r.out.p : "", r.err.p ? r.err.p : "");
    jpt_sandbox_result_fini(&r);
    if (!landlock) /* the tmpfs is small, one file smaller */
        expect_output("import os\nn = 0\ntry:\n  for i in range(100):\n    open('/tmp/%d' % i, 'wb').write(bytes(1 << 19)); n += 1\nexcept OSError as e: print('full', n < 10)\n",
                      "full True\n");
}

static void no_way_out(void **state) {
    (void)state;
    expect_output("import socket\ntry: socket.socket()\nexcept OSError as e: print('no socket', e.errno)\n", "no socket 1\n");
    expect_output("import ctypes\nl = ctypes.CDLL(None, use_errno=True)\ndef no(*a): assert l.syscall(*a) == -1 and ctypes.get_errno() == 1, a\n"
                  "import platform\nif platform.machine() == 'x86_64':\n"
                  "  for n in (101, 165, 272, 308, 321, 298, 250, 246, 169, 155, 161, 56, 57, 58, 310, 323, 425, 29): no(n, 0, 0, 0, 0, 0)\n"
                  "  no(56, 0x10000000 | 17, 0, 0, 0, 0)\n  no(157, 1, 0, 0, 0, 0)\n  no(157, (7 << 32) | 1, 0, 0, 0, 0)\n"
                  "print('denied')\n", "denied\n");
    if (landlock)
        expect_output("import os\ndef no(f, *a):\n  try: f(*a); return False\n  except PermissionError: return True\n"
                      "print(no(os.listdir, '/proc'), no(os.kill, os.getppid(), 0), no(os.kill, -1, 0), no(os.chmod, '/tmp', 0o777), no(os.setpriority, 0, os.getppid(), 5), os.getuid() != 0)\n",
                      "True True True True True True\n");
    else
        expect_output("import os\nprint(os.getpid(), os.getuid(), [p for p in os.listdir('/proc') if p.isdigit()], os.uname().nodename)\n", "1 65534 ['1'] sandbox\n");
}

static void endless_output(void **state) {
    (void)state;
    jpt_sandbox_result r = run("while True: print('x' * 1000)");
    assert_int_equal(r.end, JPT_SANDBOX_OUTPUT_LIMIT);
    assert_int_equal(r.out.n, tight.output_bytes);
    jpt_sandbox_result_fini(&r);
    r = run("import sys\nwhile True: sys.stderr.write('y' * 1000)");
    assert_int_equal(r.end, JPT_SANDBOX_OUTPUT_LIMIT);
    jpt_sandbox_result_fini(&r);
    /* closes its output and goes on */
    r = run_for(2, "import os, time\nos.close(1); os.close(2)\ntime.sleep(1000)");
    assert_int_equal(r.end, JPT_SANDBOX_TIMEOUT);
    jpt_sandbox_result_fini(&r);
}

static void a_request_to_stop_is_heard(void **state) {
    (void)state;
    jpt_sandbox_result r;
    jpt_error          err = {0};
    jpt_stop_request();
    assert_int_equal(jpt_sandbox_python(jpt_str_z("import time; time.sleep(1000)"), &tight, &r, &err), JPT_INTERRUPTED);
    jpt_stop_clear();
    jpt_sandbox_result_fini(&r);
}

static bool test(const char *program, const char *tests) {
    jpt_sandbox_result r;
    jpt_error          err = {0};
    if (jpt_sandbox_test(jpt_str_z(program), jpt_str_z(tests), &tight, &r, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    bool passed = r.passed;
    jpt_sandbox_result_fini(&r);
    return passed;
}

static void tests_prove_themselves(void **state) {
    (void)state;
    assert_true(test("def f(x): return x + 1", "assert f(1) == 2"));
    assert_true(test("print('noise', end='')\ndef f(x): return x + 1", "assert f(1) == 2\nprint('more')"));
    assert_true(test("import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\ndef f(x): return 2", "assert f(1) == 2"));
    assert_false(test("def f(x): return x", "assert f(1) == 2"));
    assert_false(test("", "assert f(1) == 2"));
    assert_false(test("def f(x):", "assert f(1) == 2"));
    assert_false(test("x = input()\ndef f(x): return 2", "assert f(1) == 2")); /* standard input is empty, not the tests */
    assert_false(test("import sys\nsys.exit(0)", "assert f(1) == 2"));
    assert_false(test("import os\ndef f(x): os._exit(0)", "assert f(1) == 2"));
    assert_true(test("def f(x): return 2", ""));
}

/* Where neither mechanism works: one clear line, and nothing runs. */
static int refusal(void) {
    jpt_error          err = {0};
    jpt_sandbox_result r = {0};
    scmp_filter_ctx    ctx = seccomp_init(SCMP_ACT_ALLOW); /* a kernel without Landlock */
    if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(38), 444, 0) != 0 || seccomp_load(ctx) != 0)
        return 2;
    seccomp_release(ctx);
    setenv("PATH", "/nonexistent", 1); /* and no bwrap */
    unsetenv("JPT_SANDBOX");
    bool good = jpt_sandbox_probe(&err) == JPT_SANDBOX && strstr(err.msg, "cannot be confined") && strstr(err.msg, "bubblewrap") && strstr(err.msg, "Landlock");
    good = good && jpt_sandbox_python(jpt_str_z("print(1)"), NULL, &r, NULL) == JPT_SANDBOX && r.out.n == 0 && !jpt_sandbox_mechanism() && !strchr(err.msg, '\n');
    if (!good)
        fprintf(stderr, "refusal: '%s'\n", err.msg);
    return good ? 0 : 1;
}

static int again(const char *how, const char *mechanism) {
    char self[1000], command[1200];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    snprintf(command, sizeof command, "JPT_SANDBOX=%s '%s' %s", mechanism, self, how);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void refuses_without_both(void **state) {
    (void)state;
    assert_int_equal(again("refusal", "auto"), 0);
}

static void names_are_checked(void **state) {
    (void)state;
    assert_int_equal(again("name", "chroot"), 0);
}

static int bad_name(void) {
    jpt_error err = {0};
    return jpt_sandbox_probe(&err) == JPT_SANDBOX && strstr(err.msg, "JPT_SANDBOX=chroot: expected auto, bubblewrap or landlock") ? 0 : 1;
}

static int mechanism_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes), cmocka_unit_test(failures_are_told), cmocka_unit_test(a_large_program_arrives_whole), cmocka_unit_test(infinite_loop),
        cmocka_unit_test(a_sleeper_is_killed_and_gone), cmocka_unit_test(no_processes), cmocka_unit_test(memory_bomb), cmocka_unit_test(files_stay_inside),
        cmocka_unit_test(no_way_out), cmocka_unit_test(endless_output), cmocka_unit_test(a_request_to_stop_is_heard), cmocka_unit_test(tests_prove_themselves),
    };
    jpt_error err = {0};
    if (jpt_sandbox_probe(&err) != JPT_OK) {
        fprintf(stderr, "skipped: %s\n", err.msg);
        return 77;
    }
    landlock = strcmp(jpt_sandbox_mechanism(), "Landlock") == 0;
    printf("mechanism: %s\n", jpt_sandbox_mechanism());
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}

int main(int argc, char **argv) {
    if (argc == 2)
        return strcmp(argv[1], "refusal") == 0 ? refusal() : strcmp(argv[1], "name") == 0 ? bad_name() : mechanism_tests();
    const struct CMUnitTest always[] = {cmocka_unit_test(refuses_without_both), cmocka_unit_test(names_are_checked)};
    int bad = cmocka_run_group_tests(always, NULL, NULL), first = again("tests", "bubblewrap"), second = again("tests", "landlock");
    if (bad || (first && first != 77) || (second && second != 77))
        return 1;
    return first == 77 && second == 77 ? 77 : 0;
}
