/* cuBLASLt, loaded at run time: own declarations of the little that is used (the ABI of versions 12 and 13), so that jpt builds
 * without its headers and starts without it. */
#ifndef JPT_CUDA_CUBLASLT_H
#define JPT_CUDA_CUBLASLT_H

#include "driver.h"

typedef struct cublasLtContext                 *lt_handle;
typedef struct cublasLtMatmulDescOpaque_t       *lt_desc;
typedef struct cublasLtMatrixLayoutOpaque_t     *lt_layout;
typedef struct cublasLtMatmulPreferenceOpaque_t *lt_preference;
typedef struct lt_algo {
    uint64_t data[8];
} lt_algo;
typedef struct lt_found { /* cublasLtMatmulHeuristicResult_t */
    lt_algo algo;
    size_t  workspace;
    int     state;
    float   waves;
    int     reserved[4];
} lt_found;

enum { LT_OK = 0, LT_NOT_SUPPORTED = 15 };
enum { LT_R_32F = 0, LT_R_16F = 2, LT_R_16BF = 14 }; /* types */
enum { LT_COMPUTE_32F = 68 };
enum { LT_DESC_TRANSPOSE_A = 3, LT_DESC_EPILOGUE = 7, LT_DESC_BIAS = 8, LT_DESC_BIAS_TYPE = 26 };
enum { LT_TRANSPOSE = 1, LT_EPILOGUE_BIAS = 4 };
enum { LT_PREFER_WORKSPACE = 1, LT_PREFER_REDUCTIONS = 3, LT_PREFER_ALIGN_A = 5, LT_PREFER_ALIGN_B = 6, LT_PREFER_ALIGN_C = 7, LT_PREFER_ALIGN_D = 8 };
enum { LT_REDUCE_APART = 2 }; /* parts of a sum in float32 in the workspace, added by a step of its own: no order left to chance */

/* name in the library, name here, arguments */
#define LT_FUNCTIONS(X)                                                                                                              \
    X(cublasLtGetVersion, version, size_t, (void))                                                                                   \
    X(cublasLtGetStatusName, status_name, const char *, (int))                                                                       \
    X(cublasLtCreate, create, int, (lt_handle *))                                                                                    \
    X(cublasLtDestroy, destroy, int, (lt_handle))                                                                                    \
    X(cublasLtMatmulDescCreate, desc_create, int, (lt_desc *, int, int))                                                             \
    X(cublasLtMatmulDescDestroy, desc_destroy, int, (lt_desc))                                                                       \
    X(cublasLtMatmulDescSetAttribute, desc_set, int, (lt_desc, int, const void *, size_t))                                           \
    X(cublasLtMatrixLayoutCreate, layout_create, int, (lt_layout *, int, uint64_t, uint64_t, int64_t))                               \
    X(cublasLtMatrixLayoutDestroy, layout_destroy, int, (lt_layout))                                                                 \
    X(cublasLtMatmulPreferenceCreate, preference_create, int, (lt_preference *))                                                     \
    X(cublasLtMatmulPreferenceDestroy, preference_destroy, int, (lt_preference))                                                     \
    X(cublasLtMatmulPreferenceSetAttribute, preference_set, int, (lt_preference, int, const void *, size_t))                         \
    X(cublasLtMatmulAlgoGetHeuristic, heuristic, int, (lt_handle, lt_desc, lt_layout, lt_layout, lt_layout, lt_layout, lt_preference, int, lt_found *, int *)) \
    X(cublasLtMatmul, matmul, int, (lt_handle, lt_desc, const void *, const void *, lt_layout, const void *, lt_layout, const void *, const void *, lt_layout, void *, lt_layout, \
                                    const lt_algo *, void *, size_t, cu_stream))

typedef struct lt_library {
    void *lib;
#define LT_MEMBER(symbol, name, result, arguments) result(*name) arguments;
    LT_FUNCTIONS(LT_MEMBER)
#undef LT_MEMBER
} lt_library;

#endif
