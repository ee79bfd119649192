/* SHA-256 by libcrypto, which has the processor's own instructions for it: a model of 16 GB is hashed at each start of a study. */
#include <jpt/base.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 20 };

void jpt_sha256_init(jpt_sha256 *s) {
    s->ctx = EVP_MD_CTX_new();
    JPT_ASSERT(s->ctx && EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) == 1);
}

void jpt_sha256_update(jpt_sha256 *s, const void *data, size_t n) { JPT_ASSERT(EVP_DigestUpdate(s->ctx, data, n) == 1); }

void jpt_sha256_final(jpt_sha256 *s, char hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    JPT_ASSERT(EVP_DigestFinal_ex(s->ctx, digest, NULL) == 1);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(s->ctx);
    s->ctx = NULL;
}

jpt_status jpt_sha256_file(const char *path, char hex[65], jpt_error *err) {
    FILE *f = fopen(path, "rb");
    if (!f)
        return JPT_FAIL(err, IO, "%s: cannot read: %s", path, strerror(errno));
    unsigned char *chunk = malloc(CHUNK);
    if (!chunk) {
        fclose(f);
        return JPT_FAIL(err, NOMEM, "out of memory for hashing %s", path);
    }
    jpt_sha256 s;
    jpt_sha256_init(&s);
    size_t n;
    while ((n = fread(chunk, 1, CHUNK, f)) > 0)
        jpt_sha256_update(&s, chunk, n);
    bool bad = ferror(f) != 0;
    jpt_sha256_final(&s, hex);
    free(chunk);
    fclose(f);
    return bad ? JPT_FAIL(err, IO, "%s: reading failed: %s", path, strerror(errno)) : JPT_OK;
}
