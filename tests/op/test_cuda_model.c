/* A whole model on the card against the CPU in float32 ($JPT_MODEL, else smollm2-135m.gguf in the cache): logits of all rows of
 * prompts that are short and long, and greedy texts.  In f32 the texts are the same, token by token; with the file's own weights they
 * may part where the CPU's two tokens were nearly tied.  Skipped, with the reason, where there is no card or no model.  Another
 * $JPT_DEVICE takes the card's place. */
#include <jpt/backend.h>
#include <jpt/model.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

enum { PROMPTS = 4, NEW = 64 };
static const char *const text[PROMPTS] = {
    "The capital of France is",
    "Once upon a time there was a little girl who lived with her grandmother at the edge of a dark forest. One morning",
    "Water boils at a lower temperature on a mountain than at the sea, because the air above presses less on it. A cook who moves from the coast to a village high "
    "up in the hills will notice that potatoes take longer to become soft, that bread rises faster, and that the water in the pot seems to boil before it is really hot. The reason is",
    "def is_prime(n):\n    if n < 2:\n        return False\n    for i in range(2, int(n ** 0.5) + 1):\n        if n % i == 0:\n            return False\n    return True\n\n\n"
    "def primes_below(n):\n    return [i for i in range(n) if is_prime(i)]\n\n\ndef factorial(n):\n    result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result\n\n\n"
    "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n\n\ndef greatest_common_divisor(a, b):\n    while b:\n        a, b = b, a % b\n"
    "    return a\n\n\ndef least_common_multiple(a, b):\n"};

typedef struct answer {
    int32_t n, token[NEW]; /* n: the prompt's tokens */
    float  *prompt, *step; /* logits: [n, V]; [NEW, V], each token was chosen from */
} answer;

static const char *device;
static char        path[1024];
static int32_t     V;
static double      limit_auto = 2e-2, near_tie = 0.1;
static answer      cpu[PROMPTS];

static void must(jpt_status st, const jpt_error *err) {
    if (st != JPT_OK)
        fail_msg("%s", err->msg);
}

static void forward(jpt_session *s, jpt_seq q, const int32_t *ids, int32_t n, float *z) {
    jpt_batch_item it = {.seq = q, .tokens = ids, .n_tokens = n, .logits = JPT_ROWS_ALL};
    jpt_batch      b = {.items = &it, .n_items = 1};
    jpt_error      err = {0};
    must(jpt_session_forward(s, &b, &err), &err);
    for (int32_t i = 0; i < n; i++)
        must(jpt_session_logits(s, i, z + (size_t)i * (size_t)V, &err), &err);
}

static void answer_to(jpt_model *m, const char *prompt, answer *a) {
    jpt_ids   ids = {0};
    jpt_error err = {0};
    jpt_seq   q;
    must(jpt_tokenizer_encode(jpt_model_tokenizer(m), prompt, strlen(prompt), 0, &ids, &err), &err);
    a->n = (int32_t)ids.n;
    a->prompt = malloc(ids.n * (size_t)V * sizeof(float));
    a->step = malloc((size_t)NEW * (size_t)V * sizeof(float));
    assert_true(a->prompt && a->step);
    jpt_session_options o = {.n_ctx = a->n + NEW, .n_batch = a->n, .n_outputs = a->n};
    jpt_session        *s;
    must(jpt_session_open(m, &o, &s, &err), &err);
    must(jpt_seq_new(s, &q, &err), &err);
    forward(s, q, ids.p, a->n, a->prompt);
    memcpy(a->step, a->prompt + (size_t)(a->n - 1) * (size_t)V, (size_t)V * sizeof(float));
    for (int32_t i = 0, row = a->n - 1; i < NEW; i++, row = 0) {
        jpt_select_item it = {.row = row};
        jpt_selected    chosen;
        must(jpt_session_select(s, &it, 1, &chosen, &err), &err);
        a->token[i] = chosen.token;
        if (i + 1 < NEW)
            forward(s, q, &a->token[i], 1, a->step + (size_t)(i + 1) * (size_t)V);
    }
    jpt_session_close(s);
    jpt_ids_fini(&ids);
}

static void answers(const char *on, const char *dtype, answer a[PROMPTS]) {
    jpt_model_options o = {.device = on, .dtype = dtype};
    jpt_error         err = {0};
    jpt_model        *m;
    must(jpt_model_open(path, &o, &m, &err), &err);
    const jpt_model_info *info = jpt_model_get_info(m);
    V = info->n_vocab;
    bool plain = strcmp(info->quantization, "F32") == 0 || strcmp(info->quantization, "F16") == 0 || strcmp(info->quantization, "BF16") == 0;
    if (!plain) /* activations are rounded to 8 bits, too: the CPU is off by 2e-2 so, and 0.1 */
        limit_auto = 5e-2, near_tie = 0.5;
    printf("%s, %s, %s on %s\n", info->path, info->quantization, dtype, info->backend);
    for (int i = 0; i < PROMPTS; i++)
        answer_to(m, text[i], &a[i]);
    jpt_model_close(m);
}

static void answers_fini(answer a[PROMPTS]) {
    for (int i = 0; i < PROMPTS; i++)
        free(a[i].prompt), free(a[i].step);
}

static double worst(const float *want, const float *got, size_t n) {
    double most = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]))
            return INFINITY;
        most = fmax(most, fabs((double)got[i] - (double)want[i])), size = fmax(size, fabs((double)want[i]));
    }
    return most / size;
}

/* Texts part only where the CPU's logits of the two tokens are closer than `gap`; 0: nowhere. */
static void compare(const char *dtype, double limit, double gap) {
    answer own[PROMPTS] = {0};
    int    same = 0, wrong = 0;
    answers(device, dtype, own);
    for (int p = 0; p < PROMPTS; p++) {
        const answer *a = &cpu[p], *b = &own[p];
        double        e = worst(a->prompt, b->prompt, (size_t)a->n * (size_t)V);
        int           i = 0;
        while (i < NEW && a->token[i] == b->token[i])
            i++;
        printf("model %s, prompt of %3d tokens: worst logit off by %.2e of the largest; ", dtype, a->n, e);
        if (i == NEW) {
            same++;
            printf("the text is the same\n");
        } else {
            const float *z = a->step + (size_t)i * (size_t)V;
            double       d = (double)z[a->token[i]] - (double)z[b->token[i]];
            printf("the text parts at token %d, where %.4f lay between the two\n", i, d);
            wrong += !(d < gap);
        }
        wrong += !(e <= limit);
    }
    printf("model %s: %d of %d texts the same as the CPU's in f32\n", dtype, same, PROMPTS);
    answers_fini(own);
    if (wrong)
        fail_msg("%d of %d comparisons out of bounds (%.0e of the largest logit, texts that part at gaps from %.1f on)", wrong, 2 * PROMPTS, limit, gap);
}

static void exact(void **ud) {
    (void)ud;
    compare("f32", 1e-3, 0);
}

static void own_weights(void **ud) {
    (void)ud;
    compare("auto", limit_auto, near_tie);
}

static int on_the_cpu(void **ud) {
    (void)ud;
    answers("cpu", "f32", cpu);
    return 0;
}

static int off_the_cpu(void **ud) {
    (void)ud;
    answers_fini(cpu);
    return 0;
}

int main(void) {
    const char  *own = getenv("JPT_MODEL"), *on = getenv("JPT_DEVICE");
    char         cache[900];
    jpt_error    err = {0};
    jpt_backend *be;
    device = on && *on ? on : "cuda";
    if (own && *own)
        snprintf(path, sizeof path, "%s", own);
    else if (jpt_home(cache, sizeof cache, &err) == JPT_OK)
        snprintf(path, sizeof path, "%s/models/smollm2-135m.gguf", cache);
    if (access(path, R_OK) != 0) {
        printf("skipped: no model, %s is not there and JPT_MODEL names no other\n", path);
        return 77;
    }
    if (jpt_backend_open(device, NULL, &be, &err) != JPT_OK) {
        printf("skipped: %s\n", err.msg);
        return 77;
    }
    jpt_backend_close(be);
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact), cmocka_unit_test(own_weights)};
    return cmocka_run_group_tests(tests, on_the_cpu, off_the_cpu);
}
