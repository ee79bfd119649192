/* One file over HTTPS, resumable, by libcurl. */
#include "dataset_priv.h"
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE_MAX_UNKNOWN = 256 << 20 }; /* more than any file here; an address gone wrong must not fill a disk */

typedef struct transfer {
    const jpt_fetch *f;
    FILE            *out;
    uint64_t         done, limit; /* bytes in the partial file; the most there may be */
    bool             full;        /* the disk */
    bool             too_long;
} transfer;

static size_t on_data(char *p, size_t size, size_t n, void *ud) {
    transfer *t = ud;
    n *= size;
    if (t->done + n > t->limit) {
        t->too_long = true;
        return 0;
    }
    if (fwrite(p, 1, n, t->out) != n) {
        t->full = true;
        return 0;
    }
    t->done += n;
    if (t->f->on_progress)
        t->f->on_progress(t->f->ud, t->done, t->f->bytes);
    return n;
}

static int on_tick(void *ud, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)ud, (void)a, (void)b, (void)c, (void)d;
    return jpt_stop_requested();
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void           init(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

static void host_of(const char *url, char out[200]) {
    const char *p = strstr(url, "://");
    p = p ? p + 3 : url;
    snprintf(out, 200, "%.*s", (int)strcspn(p, "/"), p);
}

typedef enum outcome { DONE, FAILED, AGAIN } outcome; /* AGAIN: the partial file is of no use, from the start */

static outcome explain(const transfer *t, CURLcode rc, long http, const char *why, jpt_error *err) {
    char host[200];
    host_of(t->f->url, host);
    unsigned long long done = t->done;
    if (jpt_stop_requested())
        JPT_FAIL(err, INTERRUPTED, "interrupted");
    else if (t->full)
        JPT_FAIL(err, IO, "%s.part: cannot write: %s", t->f->path, strerror(errno));
    else if (t->too_long)
        JPT_FAIL(err, FORMAT, "%s: more than the expected %llu bytes came: not the file that jpt knows", t->f->url, (unsigned long long)t->limit);
    else if (rc == CURLE_COULDNT_RESOLVE_HOST || rc == CURLE_COULDNT_RESOLVE_PROXY || rc == CURLE_COULDNT_CONNECT)
        JPT_FAIL(err, IO, "cannot reach %s (%s); is the network up? jpt pull NAME --from DIR takes the files from a folder", host, why);
    else if (rc == CURLE_HTTP_RETURNED_ERROR || http >= 400)
        JPT_FAIL(err, IO, "%s: the server answers %ld; --mirror URL or --from DIR take the file from elsewhere", t->f->url, http);
    else if (rc == CURLE_PARTIAL_FILE || rc == CURLE_RECV_ERROR || rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_GOT_NOTHING)
        JPT_FAIL(err, IO, "%s: cut off after %llu bytes (%s); run it again, it goes on from there", t->f->url, done, why);
    else
        JPT_FAIL(err, IO, "%s: %s", t->f->url, why);
    return FAILED;
}

static outcome attempt(const jpt_fetch *f, const char *part, uint64_t have, jpt_error *err) {
    transfer t = {.f = f, .done = have, .limit = f->bytes ? f->bytes : SIZE_MAX_UNKNOWN};
    char     why[CURL_ERROR_SIZE] = "";
    long     http = 0;
    CURL    *c = curl_easy_init();
    if (!c || !(t.out = fopen(part, have ? "ab" : "wb"))) {
        JPT_FAIL(err, IO, "%s: cannot write: %s", part, c ? strerror(errno) : "out of memory");
        curl_easy_cleanup(c);
        return FAILED;
    }
    bool plain = strncmp(f->url, "http://", 7) == 0;
    curl_easy_setopt(c, CURLOPT_URL, f->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, plain ? "http,https" : "https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 30L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "jpt/" JPT_VERSION);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    if (have)
        curl_easy_setopt(c, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)have);
    CURLcode rc = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &http);
    if (fclose(t.out) != 0)
        t.full = true, rc = rc == CURLE_OK ? CURLE_WRITE_ERROR : rc;
    outcome r = DONE;
    if (have && !jpt_stop_requested() && !t.full && (rc == CURLE_RANGE_ERROR || http == 416 || t.too_long))
        r = AGAIN;
    else if (rc != CURLE_OK)
        r = explain(&t, rc, http, *why ? why : curl_easy_strerror(rc), err);
    else if (f->bytes && t.done < f->bytes)
        r = explain(&t, CURLE_PARTIAL_FILE, http, "the server sent no more", err);
    curl_easy_cleanup(c);
    return r;
}

jpt_status jpt_fetch_file(const jpt_fetch *f, jpt_error *err) {
    char        part[4200], sha[65];
    struct stat sb;
    if (snprintf(part, sizeof part, "%s.part", f->path) >= (int)sizeof part)
        return JPT_FAIL(err, ARG, "path too long: %.80s...", f->path);
    pthread_once(&once, init);
    for (int tries = 0; tries < 2; tries++) {
        uint64_t have = tries == 0 && stat(part, &sb) == 0 && S_ISREG(sb.st_mode) ? (uint64_t)sb.st_size : 0;
        bool     whole = f->bytes && have == f->bytes;
        if (f->bytes && have > f->bytes)
            have = 0;
        jpt_error why = {0};
        outcome   r = whole ? DONE : attempt(f, part, have, &why);
        if (r == AGAIN)
            continue;
        if (r == FAILED) {
            if (why.code == JPT_FORMAT || (stat(part, &sb) == 0 && sb.st_size == 0))
                unlink(part);
            if (err && err->code == JPT_OK)
                *err = why;
            return why.code;
        }
        if (f->sha256) {
            JPT_TRY(jpt_sha256_file(part, sha, err));
            if (strcmp(sha, f->sha256) != 0) {
                unlink(part);
                if (have) /* the part may be of another file: once more, from the start */
                    continue;
                return JPT_FAIL(err, FORMAT, "%s: SHA-256 is %s, expected %s: not the file that jpt knows", f->url, sha, f->sha256);
            }
        }
        if (rename(part, f->path) != 0)
            return JPT_FAIL(err, IO, "%s: cannot write: %s", f->path, strerror(errno));
        return JPT_OK;
    }
    return JPT_FAIL(err, IO, "%s: the server does not go on where the partial file ends; remove %s", f->url, part);
}
