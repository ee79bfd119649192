/* CUDA's driver API, loaded at run time: own declarations of the little that is used (the ABI is stable and additive), so that jpt
 * builds without CUDA's headers and starts without a driver. */
#ifndef JPT_CUDA_DRIVER_H
#define JPT_CUDA_DRIVER_H

#include <jpt/base.h>

typedef int                          cu_result;
typedef int                          cu_device;
typedef unsigned long long           cu_pointer;
typedef struct CUctx_st             *cu_context;
typedef struct CUstream_st          *cu_stream;
typedef struct CUmod_st             *cu_module;
typedef struct CUfunc_st            *cu_function;
typedef struct CUgraph_st           *cu_graph;
typedef struct CUgraphExec_st       *cu_graph_exec;
typedef struct CUevent_st           *cu_event;

enum { CU_OK = 0, CU_OUT_OF_MEMORY = 2, CU_NOT_READY = 600, CU_UNKNOWN = 999 };
enum { CU_SM_COUNT = 16, CU_MAJOR = 75, CU_MINOR = 76, CU_SHARED_MOST = 97 }; /* device attributes */
enum { CU_LAUNCH_OVERLAP = 6 };                          /* programmatic stream serialisation */
enum { CU_CAPTURE_RELAXED = 2 };
enum { CU_FUNC_MAX_DYNAMIC_SHARED = 8 };

typedef struct cu_launch_attribute {
    int  id;
    char pad[4];
    union {
        char bytes[64];
        int  overlap;
    } value;
} cu_launch_attribute;

typedef struct cu_launch_config {
    unsigned             grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    cu_stream            stream;
    cu_launch_attribute *attributes;
    unsigned             n_attributes;
} cu_launch_config;

/* name in the library, name here, arguments */
#define CU_FUNCTIONS(X)                                                                                                    \
    X(cuInit, init, (unsigned))                                                                                            \
    X(cuDriverGetVersion, driver_version, (int *))                                                                         \
    X(cuGetErrorString, error_string, (cu_result, const char **))                                                          \
    X(cuDeviceGetCount, device_count, (int *))                                                                             \
    X(cuDeviceGet, device_get, (cu_device *, int))                                                                         \
    X(cuDeviceGetName, device_name, (char *, int, cu_device))                                                              \
    X(cuDeviceGetUuid, device_uuid, (unsigned char *, cu_device))                                                          \
    X(cuDeviceGetAttribute, device_attribute, (int *, int, cu_device))                                                     \
    X(cuDevicePrimaryCtxRetain, context_retain, (cu_context *, cu_device))                                                 \
    X(cuDevicePrimaryCtxRelease_v2, context_release, (cu_device))                                                          \
    X(cuCtxSetCurrent, context_set, (cu_context))                                                                          \
    X(cuMemGetInfo_v2, memory_info, (size_t *, size_t *))                                                                  \
    X(cuMemAlloc_v2, memory_alloc, (cu_pointer *, size_t))                                                                 \
    X(cuMemFree_v2, memory_free, (cu_pointer))                                                                             \
    X(cuMemAllocHost_v2, host_alloc, (void **, size_t))                                                                    \
    X(cuMemFreeHost, host_free, (void *))                                                                                  \
    X(cuMemcpyHtoDAsync_v2, upload, (cu_pointer, const void *, size_t, cu_stream))                                         \
    X(cuMemcpyDtoHAsync_v2, download, (void *, cu_pointer, size_t, cu_stream))                                             \
    X(cuMemcpyDtoDAsync_v2, copy, (cu_pointer, cu_pointer, size_t, cu_stream))                                             \
    X(cuMemsetD8Async, set, (cu_pointer, unsigned char, size_t, cu_stream))                                                \
    X(cuStreamCreate, stream_create, (cu_stream *, unsigned))                                                              \
    X(cuStreamDestroy_v2, stream_destroy, (cu_stream))                                                                     \
    X(cuStreamSynchronize, stream_sync, (cu_stream))                                                                       \
    X(cuStreamQuery, stream_query, (cu_stream))                                                                            \
    X(cuStreamBeginCapture_v2, capture_begin, (cu_stream, int))                                                            \
    X(cuStreamEndCapture, capture_end, (cu_stream, cu_graph *))                                                            \
    X(cuGraphInstantiateWithFlags, graph_instantiate, (cu_graph_exec *, cu_graph, unsigned long long))                     \
    X(cuGraphLaunch, graph_launch, (cu_graph_exec, cu_stream))                                                             \
    X(cuGraphExecDestroy, graph_exec_destroy, (cu_graph_exec))                                                             \
    X(cuGraphDestroy, graph_destroy, (cu_graph))                                                                           \
    X(cuEventCreate, event_create, (cu_event *, unsigned))                                                                 \
    X(cuEventRecord, event_record, (cu_event, cu_stream))                                                                  \
    X(cuEventSynchronize, event_sync, (cu_event))                                                                          \
    X(cuEventElapsedTime, event_elapsed, (float *, cu_event, cu_event))                                                    \
    X(cuEventDestroy_v2, event_destroy, (cu_event))                                                                        \
    X(cuModuleLoadData, module_load, (cu_module *, const void *))                                                          \
    X(cuModuleUnload, module_unload, (cu_module))                                                                          \
    X(cuModuleGetFunction, module_function, (cu_function *, cu_module, const char *))                                      \
    X(cuFuncSetAttribute, function_set, (cu_function, int, int))                                                           \
    X(cuLaunchKernelEx, launch, (const cu_launch_config *, cu_function, void **, void **))

typedef struct cu_driver {
    void *lib;
#define CU_MEMBER(symbol, name, arguments) cu_result(*name) arguments;
    CU_FUNCTIONS(CU_MEMBER)
#undef CU_MEMBER
} cu_driver;

/* Load libcuda.so.1 ($JPT_CUDA_LIB) and start it.  JPT_UNSUPPORTED says what is missing. */
jpt_status  cu_driver_open(cu_driver *d, jpt_error *err);
void        cu_driver_close(cu_driver *d);
const char *cu_text(const cu_driver *d, cu_result r);

#endif
