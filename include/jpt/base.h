/* Small things everything else stands on: strings, growable buffers, arenas, files, clock, random
 * numbers, logging.  Depends on libc alone. */
#ifndef JPT_BASE_H
#define JPT_BASE_H

#include <jpt/error.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- checked sizes ---------------------------------------------------------------------------- */

/* *out = a*b or a+b; false (and *out untouched) on overflow.  For every size that comes from a file. */
static inline bool jpt_mul_size(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
static inline bool jpt_add_size(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* ---- strings ---------------------------------------------------------------------------------- */

/* Borrowed bytes, not NUL-terminated; lives as long as what it points into. */
typedef struct jpt_str {
    const char *p;
    size_t      n;
} jpt_str;

jpt_str jpt_str_z(const char *z); /* of a C string; NULL gives the empty string */
bool    jpt_str_eq(jpt_str a, jpt_str b);
bool    jpt_str_eqz(jpt_str a, const char *z);

/* Growable bytes, always NUL-terminated once non-empty.  Zero-initialise; release with jpt_buf_fini.
 * A failed allocation sets oom and drops further writes: check once at the end. */
typedef struct jpt_buf {
    char  *p;
    size_t n, cap;
    bool   oom;
} jpt_buf;

void jpt_buf_fini(jpt_buf *b);
void jpt_buf_reset(jpt_buf *b); /* empty, keep the memory */
bool jpt_buf_reserve(jpt_buf *b, size_t extra);
void jpt_buf_add(jpt_buf *b, const void *p, size_t n);
void jpt_buf_addz(jpt_buf *b, const char *z);
void jpt_buf_addc(jpt_buf *b, char c);
void jpt_buf_printf(jpt_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Length of the longest prefix of p[0..n) that is whole, valid UTF-8 (RFC 3629: no surrogates, no
 * overlong forms, at most U+10FFFF).  == n when all of it is valid. */
size_t jpt_utf8_valid_prefix(const char *p, size_t n);

/* Decode one code point at p[0..n), n >= 1.  Returns its byte length (1..4) and sets *cp; an invalid
 * byte yields length 1 and *cp = -1. */
size_t jpt_utf8_decode(const char *p, size_t n, int32_t *cp);

/* The name among names[0..n) nearest to `word` by Damerau-Levenshtein distance, or NULL when none is
 * close enough (distance > max(2, length/3)) to be worth suggesting. */
const char *jpt_nearest(const char *word, const char *const *names, size_t n);

/* ---- arena ------------------------------------------------------------------------------------ */

/* Bump allocator: many small objects with one life.  Zero-initialise; jpt_arena_fini frees all.
 * Memory is zeroed and aligned to 16 bytes.  Returns NULL when out of memory. */
typedef struct jpt_arena {
    struct jpt_arena_block *head;
    size_t                  used_bytes;
} jpt_arena;

void *jpt_arena_alloc(jpt_arena *a, size_t n);
char *jpt_arena_strndup(jpt_arena *a, const char *p, size_t n); /* NUL-terminated copy */
void  jpt_arena_fini(jpt_arena *a);

/* ---- files ------------------------------------------------------------------------------------ */

/* Whole file into *out (appended).  "-" reads stdin.  JPT_IO names the file and the reason. */
jpt_status jpt_file_read(const char *path, jpt_buf *out, jpt_error *err);

/* The same for a text: a UTF-8 byte order mark at its start is left out. */
jpt_status jpt_text_read(const char *path, jpt_buf *out, jpt_error *err);

/* Write atomically: a temporary file in the same folder, fsync, rename.  Nothing of an old file is
 * lost when it fails (full disk, no permission).  A device or a pipe is written in place, a link's target replaced. */
jpt_status jpt_file_write(const char *path, const void *p, size_t n, jpt_error *err);

/* mkdir -p. */
jpt_status jpt_mkdirs(const char *path, jpt_error *err);

/* A read-only private mapping of a whole regular file. */
typedef struct jpt_mapping {
    const uint8_t *p;
    size_t         n;
} jpt_mapping;
jpt_status jpt_map_file(const char *path, jpt_mapping *out, jpt_error *err);
void       jpt_unmap(jpt_mapping *m); /* zeroed mapping accepted */

/* Folder of jpt's own cache: $JPT_HOME, else $XDG_CACHE_HOME/jpt, else ~/.cache/jpt.  Writes a
 * NUL-terminated path; JPT_ARG when none can be found or it does not fit. */
jpt_status jpt_home(char *out, size_t cap, jpt_error *err);

/* SHA-256 (FIPS 180-4), for pinned downloads and model identity in results.  final writes 64 hex digits and frees what init took;
 * without memory init ends the program. */
typedef struct jpt_sha256 {
    void *ctx;
} jpt_sha256;
void       jpt_sha256_init(jpt_sha256 *s);
void       jpt_sha256_update(jpt_sha256 *s, const void *p, size_t n);
void       jpt_sha256_final(jpt_sha256 *s, char hex[65]);
jpt_status jpt_sha256_file(const char *path, char hex[65], jpt_error *err);

/* ---- clock ------------------------------------------------------------------------------------ */

int64_t jpt_now_ns(void);        /* CLOCK_MONOTONIC */
double  jpt_now_s(void);         /* the same in seconds */

/* Between two looks of a loop that waits: leaves the core's other thread its share. */
static inline void jpt_cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}
void    jpt_sleep_s(double seconds); /* returns early on a signal */
/* Simulations put another clock in place: now_ns(ud), and sleep_ns(ud, ns) which lets it go on.  NULL: the real one again.  Not
 * while other threads look at the clock. */
void jpt_clock_replace(int64_t (*now_ns)(void *ud), void (*sleep_ns)(void *ud, int64_t ns), void *ud);
double  jpt_process_cpu_s(void); /* CPU seconds of this process, all threads, children not included */
void    jpt_wall_iso8601(char out[32]); /* UTC wall time, for records only */

/* ---- random numbers --------------------------------------------------------------------------- */

/* Philox 4x32-10 (Salmon et al., SC 2011), counter-based: the same (seed, prompt, sequence, step)
 * gives the same numbers whatever the batch, thread or order.  No state. */
typedef struct jpt_rng_key {
    uint64_t seed;
    uint32_t prompt;   /* index of the prompt in its task */
    uint32_t sequence; /* beam, sample or branch number */
    uint32_t step;     /* position of the token in the generated text */
} jpt_rng_key;

void   jpt_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* `draw` counts draws within a step.  jpt_rng_uniform is in [0, 1) with 53 bits. */
void   jpt_rng_bits(jpt_rng_key key, uint32_t draw, uint32_t out[4]);
double jpt_rng_uniform(jpt_rng_key key, uint32_t draw);

/* ---- log -------------------------------------------------------------------------------------- */

typedef enum jpt_log_level { JPT_LOG_ERROR, JPT_LOG_WARN, JPT_LOG_INFO, JPT_LOG_DEBUG } jpt_log_level;
/* Where library messages go; the default drops them.  Set once at start-up, by the program. */
void jpt_log_set(void (*sink)(void *ud, jpt_log_level level, const char *line), void *ud);
void jpt_log(jpt_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- stopping --------------------------------------------------------------------------------- */

/* Set by the program's signal handler; long loops (prefill, sweeps) look at it between steps and
 * return JPT_INTERRUPTED.  Async-signal-safe. */
void jpt_stop_request(void);
bool jpt_stop_requested(void);
void jpt_stop_clear(void);

#endif
