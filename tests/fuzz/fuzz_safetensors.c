/* libFuzzer target: any bytes as a safetensors file.  Parsing must not crash; what parses must have readable data. */
#include <jpt/format.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    jpt_safetensors s;
    uint64_t        sum = 0;
    if (jpt_safetensors_parse("fuzz", data, size, &s, NULL) != JPT_OK)
        return 0;
    for (size_t i = 0; i < s.n_tensors; i++) {
        const jpt_safetensor *t = &s.tensor[i];
        float                *v = malloc(t->bytes * 2 + 4); /* two bytes make at most one float */
        sum += t->bytes ? t->data[t->bytes - 1] : 0;
        sum += jpt_safetensors_find(&s, t->name) != NULL;
        if (v && jpt_safetensor_f32(t, v, NULL) == JPT_OK && t->bytes >= 4)
            sum += v[0] > 0;
        free(v);
    }
    __asm__ volatile("" : : "r"(sum));
    jpt_safetensors_fini(&s);
    return 0;
}
