/* Status codes and error values: how every fallible function of jpt reports failure.
 *
 * A fallible function returns jpt_status and takes a jpt_error* as its last parameter (may be NULL).
 * The first error wins: JPT_FAIL writes only into an error that is still JPT_OK.  The message is one
 * whole sentence for a user: the file or option, what was found, what was expected, what to do.
 * The library neither prints nor exits; src/cli maps codes to exit statuses. */
#ifndef JPT_ERROR_H
#define JPT_ERROR_H

#define JPT_STATUS_MAP(X)                                                            \
    X(OK, 0, "no error")                                                             \
    X(ARG, -1, "bad argument or option")                                             \
    X(NOMEM, -2, "out of host memory")                                               \
    X(DEVMEM, -3, "out of device memory")                                            \
    X(IO, -4, "input or output failed")                                              \
    X(FORMAT, -5, "malformed file")                                                  \
    X(UNSUPPORTED, -6, "not supported")                                              \
    X(CTX_FULL, -7, "context full")                                                  \
    X(DEVICE, -8, "device failed")                                                   \
    X(METER, -9, "energy cannot be measured")                                        \
    X(SANDBOX, -10, "code cannot be confined")                                       \
    X(BUSY, -11, "in use by another process")                                        \
    X(INTERRUPTED, -12, "interrupted")                                               \
    X(NOT_FOUND, -13, "not found")

typedef enum jpt_status {
#define JPT_STATUS_ENUM(name, value, text) JPT_##name = (value),
    JPT_STATUS_MAP(JPT_STATUS_ENUM)
#undef JPT_STATUS_ENUM
} jpt_status;

typedef struct jpt_error {
    jpt_status  code;
    int         sys_errno; /* errno at the failure, 0 when it plays no part */
    const char *file;      /* source position, for -v */
    int         line;
    char        msg[480]; /* one sentence, UTF-8, no newline */
} jpt_error;

/* Fill *err (if non-NULL and still JPT_OK) and return code.  Control bytes in the text become '?',
 * so that a hostile file name or tensor name cannot drive the terminal. */
jpt_status jpt_fail(jpt_error *err, jpt_status code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* The value is the constant code, so that the compiler knows it is a failure. */
#define JPT_FAIL(err, code, ...) (jpt_fail((err), JPT_##code, __FILE__, __LINE__, __VA_ARGS__), JPT_##code)

/* Return early with the callee's status. */
#define JPT_TRY(call)                                    \
    do {                                                 \
        jpt_status jpt_try_status_ = (call);             \
        if (jpt_try_status_ != JPT_OK)                   \
            return jpt_try_status_;                      \
    } while (0)

/* Short English text of a code; never NULL. */
const char *jpt_status_text(jpt_status code);

/* Broken invariant: prints file, line, condition and aborts, in release builds too.  Never for bad input. */
_Noreturn void jpt_assert_fail(const char *cond, const char *file, int line);
#define JPT_ASSERT(cond) ((cond) ? (void)0 : jpt_assert_fail(#cond, __FILE__, __LINE__))

#endif
