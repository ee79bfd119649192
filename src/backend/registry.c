/* Back-ends by name. */
#include "host.h"
#include <string.h>

jpt_status jpt_backend_open(const char *name, const jpt_backend_options *opt, jpt_backend **out, jpt_error *err) {
    static const char *const names[] = {"auto", "cpu", "ref"};
    jpt_backend_options      defaults = {0};
    if (!opt)
        opt = &defaults;
    if (!name || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0)
        return jpt_cpu_open(opt, out, err);
    if (strcmp(name, "ref") == 0)
        return jpt_ref_open(opt, out, err);
    if (strncmp(name, "cuda", 4) == 0)
        return JPT_FAIL(err, UNSUPPORTED, "device '%s': this build has no CUDA back-end; use --device cpu", name);
    const char *near = jpt_nearest(name, names, 3);
    return JPT_FAIL(err, ARG, "unknown device '%s'%s%s%s (known: auto, cpu, ref)", name, near ? "; did you mean '" : "", near ? near : "",
                    near ? "'?" : "");
}

void jpt_backend_close(jpt_backend *be) {
    if (be)
        be->ops->close(be);
}
