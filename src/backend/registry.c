/* Back-ends by name. */
#include "host.h"
#include <stdlib.h>
#include <string.h>

jpt_status jpt_backend_open(const char *name, const jpt_backend_options *opt, jpt_backend **out, jpt_error *err) {
    static const char *const names[] = {"auto", "cpu", "ref", "cuda"};
    jpt_backend_options      defaults = {0};
    if (!opt)
        opt = &defaults;
    if (!name || strcmp(name, "auto") == 0)
        name = getenv("JPT_DEVICE") && *getenv("JPT_DEVICE") ? getenv("JPT_DEVICE") : "cpu";
    if (strcmp(name, "cpu") == 0)
        return jpt_cpu_open(opt, out, err);
    if (strcmp(name, "ref") == 0)
        return jpt_ref_open(opt, out, err);
    if (strncmp(name, "cuda", 4) == 0)
        return jpt_cuda_open(name, opt, out, err);
    const char *near = jpt_nearest(name, names, 4);
    return JPT_FAIL(err, ARG, "unknown device '%s'%s%s%s (known: auto, cpu, ref, cuda, cuda:N)", name, near ? "; did you mean '" : "", near ? near : "",
                    near ? "'?" : "");
}

void jpt_backend_close(jpt_backend *be) {
    if (be)
        be->ops->close(be);
}
