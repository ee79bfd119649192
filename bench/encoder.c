/* How long a sentence encoder takes for a sentence: encoded one at a time and 16 together, as jpt embed does.
 *   bench-encoder [FOLDER|NAME [THREADS]]        default minilm and all processors
 * Sentences of 20 words, made of common ones; prints median, 10th and 90th percentile in ms a sentence of at least 3 seconds each,
 * and the processors' time of a sentence, which other work on the machine changes less. */
#include <jpt/encoder.h>
#include <jpt/format.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SENTENCES = 64, WORDS = 20, TOGETHER = 16, MOST = 100000 };

static const char *const words[] = {"the", "river", "runs", "slowly", "past", "old", "houses", "where", "people", "talk", "about", "their", "work",
                                    "and", "weather", "in", "small", "rooms", "with", "open", "windows", "while", "children", "play", "outside"};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fail(const jpt_error *err) {
    fprintf(stderr, "bench-encoder: %s\n", err->msg);
    exit(1);
}

static void measure(jpt_encoder *e, const jpt_str *text, int32_t together, int32_t tokens) {
    static double ms[MOST];
    jpt_error     err = {0};
    float        *out = malloc((size_t)together * (size_t)jpt_encoder_get_info(e)->n_embd * sizeof *out);
    int           n = 0;
    double        spent = 0;
    clock_t       before;
    for (int warm = 0; warm < 5; warm++)
        if (jpt_encoder_embed(e, text, together, out, NULL, &err) != JPT_OK)
            fail(&err);
    before = clock();
    while (spent < 3 && n < MOST) {
        double t0 = jpt_now_s();
        if (jpt_encoder_embed(e, text + n * together % SENTENCES, together, out, NULL, &err) != JPT_OK)
            fail(&err);
        double t = jpt_now_s() - t0;
        ms[n++] = 1000 * t / together;
        spent += t;
    }
    double cpu = 1000.0 * (double)(clock() - before) / CLOCKS_PER_SEC / n / together;
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    printf("%2d at a time  %.2f ms a sentence (10 %%: %.2f, 90 %%: %.2f; %d calls, %d words, %d tokens), %.2f ms of processor\n", together, ms[n / 2], ms[n / 10], ms[9 * n / 10], n, WORDS, tokens, cpu);
    free(out);
}

int main(int argc, char **argv) {
    char         path[4096], sentence[SENTENCES][WORDS * 12];
    jpt_str      text[SENTENCES];
    jpt_encoder *e;
    jpt_error    err = {0};
    int32_t      tokens = 0;
    if (jpt_encoder_resolve(argc > 1 ? argv[1] : "minilm", path, sizeof path, &err) != JPT_OK ||
        jpt_encoder_open(path, NULL, argc > 2 ? atoi(argv[2]) : 0, &e, &err) != JPT_OK)
        fail(&err);
    for (int i = 0; i < SENTENCES; i++) {
        size_t n = 0;
        for (int w = 0; w < WORDS; w++)
            n += (size_t)snprintf(sentence[i] + n, sizeof sentence[i] - n, "%s%s", w ? " " : "", words[(i * 7 + w * (i % 5 + 1)) % (int)(sizeof words / sizeof *words)]);
        text[i] = (jpt_str){sentence[i], n};
    }
    float one[4096];
    if (jpt_encoder_get_info(e)->n_embd > 4096 || jpt_encoder_embed(e, text, 1, one, &tokens, &err) != JPT_OK)
        fail(&err);
    printf("%s: %d layers, width %d, float32\n", argc > 1 ? argv[1] : "minilm", jpt_encoder_get_info(e)->n_layers, jpt_encoder_get_info(e)->n_embd);
    measure(e, text, 1, tokens);
    measure(e, text, TOGETHER, tokens);
    jpt_encoder_close(e);
    return 0;
}
