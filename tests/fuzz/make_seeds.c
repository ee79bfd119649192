/* Writes the seed corpus of fuzz_gguf into a folder: small valid models.  make_seeds FOLDER */
#include "tiny_model.h"
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc != 2 || jpt_mkdirs(argv[1], NULL) != JPT_OK)
        return 2;
    static const jpt_dtype types[] = {JPT_F32, JPT_Q4_1, JPT_Q8_0};
    for (int i = 0; i < 3; i++) {
        tiny_model t = {.architecture = i == 1 ? "qwen2" : "llama", .dtype = types[i], .n_embd = 32, .n_ff = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .untied = i == 2};
        jpt_buf    b = {0};
        char       path[4096];
        tiny_model_bytes(&t, &b);
        snprintf(path, sizeof path, "%s/tiny-%d.gguf", argv[1], i);
        if (b.oom || jpt_file_write(path, b.p, b.n, NULL) != JPT_OK)
            return 1;
        jpt_buf_fini(&b);
    }
    return 0;
}
