/* Runs generated code where it can do no harm: bubblewrap (no network, /usr read-only and nothing else, its own process
 * and user namespaces, a small tmpfs), a seccomp filter, resource limits, a wall clock and capped output.  Where user namespaces are
 * off: Landlock and a stricter filter, and then no place to write to at all.  Where the machine can do neither, it refuses: there is no
 * unconfined mode.  All functions may be called from several threads at a time. */
#ifndef JPT_SANDBOX_H
#define JPT_SANDBOX_H

#include <jpt/base.h>

typedef struct jpt_sandbox_limits {
    double   wall_s, cpu_s;                    /* 0: 10 and 5 */
    uint64_t memory_bytes, file_bytes, tmpfs_bytes; /* 0: 256 MB, 1 MB, 8 MB */
    size_t   output_bytes;                     /* 0: 64 kB of each of stdout and stderr; more ends the run */
    int      processes;                        /* 0: 16; bounds threads: a program may start no other process.  Landlock: memory bounds them */
} jpt_sandbox_limits;

typedef enum jpt_sandbox_end {
    JPT_SANDBOX_EXITED,       /* by itself; code = exit status, 0 is a pass */
    JPT_SANDBOX_SIGNALLED,    /* by a signal of its own making (code), a crash or an abort */
    JPT_SANDBOX_TIMEOUT,      /* wall clock: killed */
    JPT_SANDBOX_OUTPUT_LIMIT, /* too much output: killed; out and err hold the beginning */
    JPT_SANDBOX_RESOURCE      /* the kernel killed it for CPU time or memory.  (MemoryError and a full /tmp are
                                 Python exceptions: EXITED, code 1, the reason in err.) */
} jpt_sandbox_end;

typedef struct jpt_sandbox_result {
    jpt_sandbox_end end;
    int             code; /* exit status or signal number */
    jpt_buf         out, err; /* captured, capped; release with jpt_sandbox_result_fini */
    bool            passed; /* of jpt_sandbox_test */
    double          wall_s, cpu_s; /* cpu_s with start-up of the interpreter; NAN when the run had to be killed */
} jpt_sandbox_result;
void jpt_sandbox_result_fini(jpt_sandbox_result *r);

/* Can code be confined here?  Runs a real confined program once a process and remembers.  JPT_SANDBOX says why not.
 * $JPT_SANDBOX: auto (default: the first that works), bubblewrap, landlock. */
jpt_status  jpt_sandbox_probe(jpt_error *err);
const char *jpt_sandbox_mechanism(void); /* "bubblewrap" or "Landlock"; NULL: none */

/* Run a Python 3 program (source text; nothing of the host's environment).  JPT_OK whatever the program did; limits NULL
 * for defaults.  JPT_SANDBOX when it cannot be confined, JPT_INTERRUPTED when jpt_stop_requested() turned true. */
jpt_status jpt_sandbox_python(jpt_str source, const jpt_sandbox_limits *limits, jpt_sandbox_result *out, jpt_error *err);
/* The same, then the tests in the program's namespace.  out->passed: the tests were reached and went through, whatever the
 * program printed or exited with before.  Against accidents and ordinary tricks: code and tests share an interpreter, and a program
 * that reads the runner's open file can take the proof (src/sandbox/sandbox.c). */
jpt_status jpt_sandbox_test(jpt_str program, jpt_str tests, const jpt_sandbox_limits *limits, jpt_sandbox_result *out, jpt_error *err);

#endif
