/* libcuda at run time. */
#include "driver.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

const char *cu_text(const cu_driver *d, cu_result r) {
    const char *text = NULL;
    return d->error_string && d->error_string(r, &text) == CU_OK && text ? text : "unknown error";
}

void cu_driver_close(cu_driver *d) {
    if (d->lib)
        dlclose(d->lib);
    d->lib = NULL;
}

jpt_status cu_driver_open(cu_driver *d, jpt_error *err) {
    const char *path = getenv("JPT_CUDA_LIB");
    if (!path || !*path)
        path = "libcuda.so.1";
    *d = (cu_driver){.lib = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (!d->lib)
        return JPT_FAIL(err, UNSUPPORTED, "no CUDA driver (%s); use --device cpu", dlerror());
    const struct {
        const char *symbol;
        void       *slot;
    } wanted[] = {
#define CU_ROW(symbol, name, arguments) {#symbol, &d->name},
        CU_FUNCTIONS(CU_ROW)
#undef CU_ROW
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *p = dlsym(d->lib, wanted[i].symbol);
        if (!p) {
            cu_driver_close(d);
            return JPT_FAIL(err, UNSUPPORTED, "the CUDA driver is too old: it lacks %s; jpt needs one of CUDA 12 or later", wanted[i].symbol);
        }
        memcpy(wanted[i].slot, &p, sizeof p);
    }
    cu_result r = d->init(0);
    if (r != CU_OK) {
        jpt_status st = JPT_FAIL(err, UNSUPPORTED, "CUDA does not start: %s; use --device cpu", cu_text(d, r));
        cu_driver_close(d);
        return st;
    }
    return JPT_OK;
}
