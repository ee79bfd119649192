/* libFuzzer target: any bytes as a GGUF model.  Opening must not crash; what opens must have readable tensors and metadata. */
#include <jpt/format.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    jpt_gguf g;
    if (jpt_gguf_parse("fuzz", data, size, &g, NULL) == JPT_OK) {
        uint64_t sum = 0; /* every byte that a getter hands out is read */
        for (size_t i = 0; i < g.n_kv; i++) {
            char     key[300];
            uint64_t u = 0;
            double   d = 0;
            bool     b = false;
            jpt_str  s = {0};
            snprintf(key, sizeof key, "%.*s", (int)(g.kv[i].key.n < 299 ? g.kv[i].key.n : 299), g.kv[i].key.p);
            jpt_gguf_u64(&g, key, &u);
            jpt_gguf_f64(&g, key, &d);
            jpt_gguf_bool(&g, key, &b);
            if (jpt_gguf_str(&g, key, &s) && s.n)
                sum += (uint8_t)s.p[s.n - 1];
            sum += u + (d > 0) + b;
        }
        for (size_t i = 0; i < g.n_tensors; i++) {
            const jpt_tensor_view *t = &g.tensor[i];
            if (t->ne[0] <= 1 << 16) {
                float *row = malloc((size_t)t->ne[0] * sizeof *row);
                if (row)
                    jpt_dequantize_row(t->dtype, t->data, row, (size_t)t->ne[0]);
                free(row);
            }
            sum += t->data[t->bytes - 1];
        }
        __asm__ volatile("" : : "r"(sum));
        jpt_gguf_fini(&g);
    }
    jpt_model_file f;
    if (jpt_model_file_parse("fuzz", data, size, NULL, 0, &f, NULL) == JPT_OK)
        jpt_model_file_close(&f);
    return 0;
}
