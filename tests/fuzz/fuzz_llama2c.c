/* libFuzzer target: any bytes as a llama2.c checkpoint and its tokenizer, split at a length in the first two bytes. */
#include <jpt/format.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    size_t         n = (size_t)data[0] | (size_t)data[1] << 8, rest = size - 2;
    jpt_model_file f;
    if (n > rest)
        n = rest;
    if (jpt_model_file_parse("fuzz", data + 2 + n, rest - n, data + 2, n, &f, NULL) == JPT_OK)
        jpt_model_file_close(&f);
    return 0;
}
