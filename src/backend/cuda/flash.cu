/* Attention of runs of many rows (prompts) over a float16 cache, on the tensor cores.
 *
 * The algorithm is FlashAttention-2's (Dao 2023): a block holds FLASH_ROWS queries of one head and walks over the keys up to the last
 * one that they see, FLASH_KEYS at a time, with a running maximum and sum a row; scores never leave registers.  A warp has 32 rows.
 * Queries are scaled (by log2 e too) and rounded to float16, as are the softmax's weights before they meet the values; sums and
 * statistics are float32.  Keys and values come through the page table, 16 bytes a load, one tile ahead of the products.
 *
 * Rows in shared memory are E float16 wide; their pieces of 16 bytes are swapped about, piece c of row r lies at c ^ (r % 8), so that
 * eight rows' pieces of one column, which ldmatrix reads together, lie in different banks. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "mma.cuh"

__device__ static float power2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ static void store_pair(float *y, float a, float b) { *(float2 *)y = {a, b}; }
__device__ static void store_pair(__half *y, float a, float b) { *(__half2 *)y = __floats2half2_rn(a, b); }
__device__ static void store_pair(__nv_bfloat16 *y, float a, float b) { *(__nv_bfloat162 *)y = __floats2bfloat162_rn(a, b); }

/* Two columns in each piece of eight: row h of a lane's two. */
template <typename T, int DT> __device__ static void store_row(T *y, const float (&o)[DT][4], int h, float f) {
#pragma unroll
    for (int d = 0; d < DT; d++)
        store_pair(y + d * 8, o[d][2 * h] * f, o[d][2 * h + 1] * f);
}

template <int E> __device__ static void flash(const flash_job &j) {
    constexpr int PIECES = E / 8, PITCH = 2 * E, KT = FLASH_KEYS / 8, DT = E / 8, TILE = FLASH_KEYS * PITCH, MT = 2, AT_ONCE = FLASH_THREADS / PIECES;
    static_assert(FLASH_ROWS == FLASH_THREADS / WARP * 16 * MT && FLASH_THREADS == 2 * FLASH_KEYS, "four warps of 32 rows; two tiles' slots at once");
    extern __shared__ __align__(1024) unsigned char room[]; /* queries; keys and values of even tiles, of odd ones; their rows' slots */
    unsigned *const slot = (unsigned *)(room + FLASH_ROWS * PITCH + 4 * TILE); /* [2][FLASH_KEYS] */
    let_successor_start();
    const int head = blockIdx.x, tile = j.n_tiles - 1 - (int)blockIdx.y, tid = threadIdx.x, warp = tid / WARP, lane = tid % WARP, g = lane / 4, t = lane % 4; /* long rows first */
    int       r = 0;
    while (r + 1 < j.n_runs && tile >= j.run[r + 1].first_tile)
        r++;
    const int  from = (tile - j.run[r].first_tile) * FLASH_ROWS, rows = min(FLASH_ROWS, j.run[r].n_rows - from), row0 = j.run[r].first_row + from;
    const int  pos0 = j.pos[row0], n_keys = pos0 + rows, n_steps = (n_keys + FLASH_KEYS - 1) / FLASH_KEYS;
    const int *table = j.tables + j.row_table[row0];
    auto       slot_at = [&](int key) -> unsigned { /* in widths; any that is there for keys behind the end, which are not read */
        if (key >= n_keys)
            return 0;
        return (unsigned)((j.layer * j.kv.n_pages + table[key / j.kv.page_size]) * j.kv.page_size + key % j.kv.page_size);
    };
    slot[tid] = slot_at(tid); /* tiles 0 and 1 */
    after_predecessor();
    __syncthreads();
    const int      column = head / j.group * E + tid % PIECES * 8;
    const uint32_t queries = shared_address(room), tiles = queries + FLASH_ROWS * PITCH;
    auto           fetch = [&](int step) {
        const int      first = tid / PIECES;
        const uint32_t to = tiles + (step & 1) * 2 * TILE + first * PITCH + ((tid % PIECES ^ (first & 7)) << 4);
#pragma unroll
        for (int i = 0; i < FLASH_KEYS / AT_ONCE; i++) { /* AT_ONCE is a multiple of 8: the piece keeps its place */
            int    p = first + i * AT_ONCE;
            bool   here = step * FLASH_KEYS + p < n_keys;
            size_t at = (size_t)slot[(step & 1) * FLASH_KEYS + p] * j.kv.width + column;
            copy16(to + i * AT_ONCE * PITCH, (const __half *)j.kv.k + at, here);
            copy16(to + i * AT_ONCE * PITCH + TILE, (const __half *)j.kv.v + at, here);
        }
        copies_end_group();
    };
    fetch(0);
    const float by = j.scale * 1.4426950408889634f;
#pragma unroll 4
    for (int i = tid; i < FLASH_ROWS * PIECES; i += FLASH_THREADS) {
        int    row = i / PIECES, piece = i % PIECES;
        float4 a = {0, 0, 0, 0}, b = a;
        if (row < rows) {
            const float4 *x = (const float4 *)(j.q + ((size_t)(row0 + row) * j.heads + head) * E + piece * 8);
            a = x[0], b = x[1];
        }
        *(uint4 *)(room + row * PITCH + ((piece ^ (row & 7)) << 4)) = {pack(a.x * by, a.y * by), pack(a.z * by, a.w * by), pack(b.x * by, b.y * by), pack(b.z * by, b.w * by)};
    }
    const int      own = warp * 16 * MT; /* this warp's rows */
    const uint32_t swap = (lane & 7) << 4, q_at = queries + (own + (lane & 15)) * PITCH + ((lane >> 4 << 4) ^ swap),
                   k_at = tiles + ((lane & 7) + (lane >> 4 << 3)) * PITCH + (((lane >> 3 & 1) << 4) ^ swap), v_at = tiles + TILE + (lane & 15) * PITCH + ((lane >> 4 << 4) ^ swap);
    float o[MT][DT][4] = {}, most[MT][2], sum[MT][2] = {};
#pragma unroll
    for (int m = 0; m < MT; m++)
        most[m][0] = most[m][1] = -INFINITY;
    for (int step = 0; step < n_steps; step++) {
        copies_wait();
        __syncthreads(); /* this tile is there for all, and all are done with the other one */
        if (step + 1 < n_steps)
            fetch(step + 1);
        unsigned   next = tid < FLASH_KEYS && step + 2 < n_steps ? slot_at((step + 2) * FLASH_KEYS + tid) : 0;
        const int  key0 = step * FLASH_KEYS;
        const bool sees = own < rows && key0 <= pos0 + own + 16 * MT - 1;
        const uint32_t of = (step & 1) * 2 * TILE;
        if (sees) {
            float s[MT][KT][4] = {};
#pragma unroll
            for (int k = 0; k < E / 16; k++) {
                uint32_t a[MT][4];
#pragma unroll
                for (int m = 0; m < MT; m++)
                    load4(a[m], (q_at ^ k << 5) + m * 16 * PITCH);
#pragma unroll
                for (int n = 0; n < KT / 2; n++) {
                    uint32_t b[4];
                    load4(b, ((k_at + of) ^ k << 5) + n * 16 * PITCH);
#pragma unroll
                    for (int m = 0; m < MT; m++) {
                        multiply_add(s[m][2 * n], a[m], b[0], b[1]);
                        multiply_add(s[m][2 * n + 1], a[m], b[2], b[3]);
                    }
                }
            }
            if (key0 + FLASH_KEYS - 1 > pos0 + own) /* some row does not see all of them */
#pragma unroll
                for (int m = 0; m < MT; m++)
#pragma unroll
                    for (int n = 0; n < KT; n++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            if (key0 + n * 8 + 2 * t + (e & 1) > pos0 + own + m * 16 + g + (e >> 1) * 8)
                                s[m][n][e] = -INFINITY;
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    float top = most[m][h];
#pragma unroll
                    for (int n = 0; n < KT; n++)
                        top = fmaxf(top, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
                    top = fmaxf(top, __shfl_xor_sync(FULL, top, 1));
                    top = fmaxf(top, __shfl_xor_sync(FULL, top, 2));
                    float f = power2(most[m][h] - top), w = 0; /* key 0 is seen by all: top is finite from the first tile on */
                    most[m][h] = top;
#pragma unroll
                    for (int n = 0; n < KT; n++) {
                        s[m][n][2 * h] = power2(s[m][n][2 * h] - top), s[m][n][2 * h + 1] = power2(s[m][n][2 * h + 1] - top);
                        w += s[m][n][2 * h] + s[m][n][2 * h + 1];
                    }
                    sum[m][h] = fmaf(sum[m][h], f, w);
#pragma unroll
                    for (int d = 0; d < DT; d++)
                        o[m][d][2 * h] *= f, o[m][d][2 * h + 1] *= f;
                }
#pragma unroll
            for (int k = 0; k < KT / 2; k++) {
                uint32_t p[MT][4];
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    p[m][0] = pack(s[m][2 * k][0], s[m][2 * k][1]), p[m][1] = pack(s[m][2 * k][2], s[m][2 * k][3]);
                    p[m][2] = pack(s[m][2 * k + 1][0], s[m][2 * k + 1][1]), p[m][3] = pack(s[m][2 * k + 1][2], s[m][2 * k + 1][3]);
                }
#pragma unroll
                for (int d = 0; d < DT / 2; d++) {
                    uint32_t b[4];
                    load4_transposed(b, ((v_at + of) ^ d << 5) + k * 16 * PITCH);
#pragma unroll
                    for (int m = 0; m < MT; m++) {
                        multiply_add(o[m][2 * d], p[m], b[0], b[1]);
                        multiply_add(o[m][2 * d + 1], p[m], b[2], b[3]);
                    }
                }
            }
        }
        if (tid < FLASH_KEYS) /* this tile's were read before the last barrier */
            slot[(step & 1) * FLASH_KEYS + tid] = next;
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float all = sum[m][h];
            all += __shfl_xor_sync(FULL, all, 1);
            all += __shfl_xor_sync(FULL, all, 2);
            int row = own + m * 16 + h * 8 + g;
            if (row >= rows)
                continue;
            float  f = 1.0f / all;
            size_t at = ((size_t)(row0 + row) * j.heads + head) * E + 2 * t;
            if (j.to == TO_F32)
                store_row((float *)j.y + at, o[m], h, f);
            else if (j.to == TO_F16)
                store_row((__half *)j.y + at, o[m], h, f);
            else
                store_row((__nv_bfloat16 *)j.y + at, o[m], h, f);
        }
}

#define FLASH(E) \
    extern "C" __global__ void __launch_bounds__(FLASH_THREADS, 2) flash_##E(const __grid_constant__ flash_job j) { flash<E>(j); }
FLASH(64) FLASH(128)
