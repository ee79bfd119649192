#ifndef JPT_SANDBOX_PRIV_H
#define JPT_SANDBOX_PRIV_H

#include <jpt/sandbox.h>

typedef enum sandbox_kind { SANDBOX_BUBBLEWRAP, SANDBOX_LANDLOCK } sandbox_kind;

/* How code is confined here: found once by the probe. */
typedef struct sandbox_way {
    sandbox_kind kind;
    bool         as_nobody; /* root gives itself up first */
} sandbox_way;

/* What the parent has prepared for the child. */
typedef struct sandbox_child {
    sandbox_way               way;
    const jpt_sandbox_limits *limits;
    int                       in, out, err; /* become 0, 1, 2 */
    int                       filter;       /* memory file with the seccomp filter of bubblewrap; -1 */
} sandbox_child;

/* In the forked child: confine and become the interpreter.  What goes wrong is told on `err`, exit status 127. */
_Noreturn void sandbox_run_child(const sandbox_child *c);

/* A memory file with the seccomp filter in BPF, for bubblewrap. */
jpt_status sandbox_make_filter(int *fd, jpt_error *err);
/* The filter for the process itself, with what namespaces would have kept out of reach; 0 or -errno. */
int sandbox_load_filter(void);
/* Files: nothing but reading and executing below /usr, and /dev/null.  0 or -errno (-ENOSYS, -EOPNOTSUPP: no Landlock). */
int sandbox_landlock(void);

#endif
