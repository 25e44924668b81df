/* Compiled in before mcu_model.c by prove.py: each kernel shut in what its arguments say it may touch of the arena. Here
 * all else is poisoned for the address sanitizer, in steps of 8 bytes. On a board all else is garbage that must be as it
 * was when the kernel is through: it has written nothing there, nor does its result depend on it. */
#ifndef GUARDED_H
#define GUARDED_H
#include "mcu.h"
#include "mcu_model.h"
#include <string.h>

#if !defined(EACH_ARENA) /* DO(array, bytes) for each array of the arena, one for each region */
#define EACH_ARENA(DO) DO(mcu_arena, MCU_ARENA_BYTES)
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>

#define POISON(arena, bytes) __asan_poison_memory_region(arena, bytes);
#define UNPOISON(arena, bytes) __asan_unpoison_memory_region(arena, bytes);
static inline void forbid_all(void) { EACH_ARENA(POISON) }
static inline void allow_bytes(const int8_t *from, int n) { __asan_unpoison_memory_region(from, (size_t)n); }
static inline void enter(void) {}
static inline void leave(void) { EACH_ARENA(UNPOISON) }
#else
#include "port.h"

static int8_t forbidden[MCU_ARENA_BYTES], kept[MCU_ARENA_BYTES];

static inline void forbid_all(void) { memset(forbidden, 1, sizeof forbidden); }

/* forbidden and kept hold the arrays one behind the other, `before` being the bytes of those before. */
#define ALLOW(arena, bytes)                                                                                             \
    if (from >= arena && from < arena + (bytes))                                                                        \
        memset(forbidden + before + (from - arena), 0, (size_t)n);                                                      \
    before += bytes;
static inline void allow_bytes(const int8_t *from, int n) {
    int before = 0;
    EACH_ARENA(ALLOW)
}

#define ENTER(arena, bytes)                                                                                             \
    memcpy(kept + before, arena, bytes);                                                                                \
    for (int i = 0; i < (bytes); i++)                                                                                   \
        if (forbidden[before + i])                                                                                      \
            arena[i] = (int8_t)(91 * i + 7);                                                                            \
    before += bytes;
static inline void enter(void) {
    int before = 0;
    EACH_ARENA(ENTER)
}

#define LEAVE(arena, bytes)                                                                                             \
    for (int i = 0; i < (bytes); i++)                                                                                   \
        if (forbidden[before + i] && arena[i] != (int8_t)(91 * i + 7)) {                                                \
            for (const char *c = "{\"outside\": true}\n"; *c; c++)                                                     \
                mcu_put(*c);                                                                                            \
            mcu_exit(1);                                                                                                \
        } else if (forbidden[before + i])                                                                               \
            arena[i] = kept[before + i];                                                                                \
    before += bytes;
static inline void leave(void) {
    int before = 0;
    EACH_ARENA(LEAVE)
}
#endif

static inline void allow(const int8_t *from, int rows, int cols, int c) {
    if (from)
        allow_bytes(from, rows * cols * c);
}

static inline void guard(const mcu_axis *y, const mcu_axis *x, const int8_t *in, int cin, const int8_t *res,
                         const int8_t *out, int cout) {
    forbid_all();
    allow(in, y->n_in, x->n_in, cin);
    allow(res, y->n_res, x->n_res, cout);
    for (int i = 0; i < y->n_out; i++) /* only the rows of the patch at hand */
        allow(out + ((y->dst + i) * x->n_dst + x->dst) * cout, 1, x->n_out, cout);
}

#define COLS(op, y, x) (((x)->n_out - 1) * (op)->sw + (op)->kw)
#define POSITIONS(op, y, x) ((y)->n_out * (x)->n_out)
#define GUARDED_CONV(kernel, SCRATCH, SIZE, op, y, x, in, res, out, scratch)                                            \
    do {                                                                                                                \
        guard(y, x, in, (op)->cin, res, out, (op)->cout);                                                               \
        allow(scratch, 1, 1, SCRATCH((op)->cin / (op)->groups, (op)->kh, (op)->kw, SIZE(op, y, x)));                    \
        enter();                                                                                                        \
        kernel(op, y, x, in, res, out, scratch);                                                                        \
        leave();                                                                                                        \
    } while (0)
#define mcu_conv_pw(...) GUARDED_CONV(mcu_conv_pw, MCU_CONV_PW_SCRATCH, POSITIONS, __VA_ARGS__)
#define mcu_conv_pw_twice(...) GUARDED_CONV(mcu_conv_pw_twice, MCU_CONV_PW_SCRATCH, POSITIONS, __VA_ARGS__)
#define mcu_conv_pw_twice_rows(...) GUARDED_CONV(mcu_conv_pw_twice_rows, MCU_CONV_PW_SCRATCH, POSITIONS, __VA_ARGS__)
#define mcu_conv_pw_raw(...) GUARDED_CONV(mcu_conv_pw_raw, MCU_CONV_PW_SCRATCH, POSITIONS, __VA_ARGS__)
#define mcu_conv_pw_rows(...) GUARDED_CONV(mcu_conv_pw_rows, MCU_CONV_PW_SCRATCH, POSITIONS, __VA_ARGS__)
#define mcu_conv_pw_one(...) GUARDED_CONV(mcu_conv_pw_one, MCU_CONV_PW_SCRATCH, POSITIONS, __VA_ARGS__)
#define mcu_conv_dense(...) GUARDED_CONV(mcu_conv_dense, MCU_CONV_DENSE_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dense_twice(...) GUARDED_CONV(mcu_conv_dense_twice, MCU_CONV_DENSE_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dense_twice_rows(...) GUARDED_CONV(mcu_conv_dense_twice_rows, MCU_CONV_DENSE_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dense_raw(...) GUARDED_CONV(mcu_conv_dense_raw, MCU_CONV_DENSE_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dense_rows(...) GUARDED_CONV(mcu_conv_dense_rows, MCU_CONV_DENSE_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_group(...) GUARDED_CONV(mcu_conv_group, MCU_CONV_GROUP_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_group_twice(...) GUARDED_CONV(mcu_conv_group_twice, MCU_CONV_GROUP_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dw(...) GUARDED_CONV(mcu_conv_dw, MCU_CONV_DW_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dw_twice(...) GUARDED_CONV(mcu_conv_dw_twice, MCU_CONV_DW_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dw_fast(...) GUARDED_CONV(mcu_conv_dw_fast, MCU_CONV_DW_SCRATCH, COLS, __VA_ARGS__)
#define mcu_conv_dw_twice_fast(...) GUARDED_CONV(mcu_conv_dw_twice_fast, MCU_CONV_DW_SCRATCH, COLS, __VA_ARGS__)

#define GUARDED(kernel, op, y, x, in, res, out, cout, ...)                                                              \
    do {                                                                                                                \
        guard(y, x, in, (op)->c, res, out, cout);                                                                       \
        enter();                                                                                                        \
        kernel(op, y, x, in, __VA_ARGS__);                                                                              \
        leave();                                                                                                        \
    } while (0)
#define mcu_maxpool(op, y, x, in, out) GUARDED(mcu_maxpool, op, y, x, in, 0, out, (op)->c, out)
#define mcu_avgpool(op, y, x, in, out) GUARDED(mcu_avgpool, op, y, x, in, 0, out, (op)->c, out)
#define mcu_avgpool_twice(op, y, x, in, out) GUARDED(mcu_avgpool_twice, op, y, x, in, 0, out, (op)->c, out)
#define mcu_gap(op, y, x, in, out) GUARDED(mcu_gap, op, y, x, in, 0, out, (op)->c, out)
#define mcu_gap_twice(op, y, x, in, out) GUARDED(mcu_gap_twice, op, y, x, in, 0, out, (op)->c, out)
#define mcu_pad(op, y, x, in, out) GUARDED(mcu_pad, op, y, x, in, 0, out, (op)->c, out)
#define mcu_upsample(op, y, x, in, out) GUARDED(mcu_upsample, op, y, x, in, 0, out, (op)->c, out)
#define mcu_take(op, y, x, in, out) GUARDED(mcu_take, op, y, x, in, 0, out, (op)->cout, out)
#define mcu_space_to_depth(op, y, x, in, out) GUARDED(mcu_space_to_depth, op, y, x, in, 0, out, (op)->cout, out)
#define mcu_depth_to_space(op, y, x, in, out) GUARDED(mcu_depth_to_space, op, y, x, in, 0, out, (op)->cout, out)
#define mcu_act_channels(op, y, x, in, out) GUARDED(mcu_act_channels, op, y, x, in, 0, out, (op)->c, out)
#define mcu_act(op, y, x, in, out) GUARDED(mcu_act, op, y, x, in, 0, out, (op)->c, out)
#define mcu_softmax(op, y, x, in, out) GUARDED(mcu_softmax, op, y, x, in, 0, out, (op)->c, out)
#define mcu_softmax_twice(op, y, x, in, out) GUARDED(mcu_softmax_twice, op, y, x, in, 0, out, (op)->c, out)
#define mcu_concat(op, y, x, in, out) GUARDED(mcu_concat, op, y, x, in, 0, out, (op)->cout, out)
#define mcu_add(op, y, x, in, res, out) GUARDED(mcu_add, op, y, x, in, res, out, (op)->c, res, out)
#define mcu_add_twice(op, y, x, in, res, out) GUARDED(mcu_add_twice, op, y, x, in, res, out, (op)->c, res, out)
#define mcu_mul(op, y, x, in, res, out) GUARDED(mcu_mul, op, y, x, in, res, out, (op)->c, res, out)
#define mcu_mul_twice(op, y, x, in, res, out) GUARDED(mcu_mul_twice, op, y, x, in, res, out, (op)->c, res, out)
#define GUARDED_ATTENTION(kernel, op, y, x, in, cin, other, out, cout)                                                  \
    do {                                                                                                                \
        forbid_all();                                                                                                   \
        allow(in, (y)->n_in, (x)->n_in, cin);                                                                           \
        allow(other, (y)->n_res, (x)->n_res, (op)->heads *(op)->depth);                                                 \
        allow(out, (y)->n_out, (x)->n_out, cout);                                                                       \
        enter();                                                                                                        \
        kernel(op, y, x, in, other, out);                                                                               \
        leave();                                                                                                        \
    } while (0)
#define mcu_attention_scores(op, y, x, in, key, out)                                                                    \
    GUARDED_ATTENTION(mcu_attention_scores, op, y, x, in, (op)->heads *(op)->depth, key, out, (y)->n_res *(x)->n_res)
#define mcu_attention_sum(op, y, x, in, value, out)                                                                     \
    GUARDED_ATTENTION(mcu_attention_sum, op, y, x, in, (y)->n_res *(x)->n_res, value, out, (op)->heads *(op)->depth)

/* The caches: positions across or along the tile, as many as it takes out or puts in. */
#define GUARDED_CACHE(call, c, y, x, tile, cache, high, wide)                                                           \
    do {                                                                                                                \
        forbid_all();                                                                                                   \
        allow(tile, (y)->n, (x)->n, c);                                                                                 \
        allow(cache, high, wide, c);                                                                                    \
        enter();                                                                                                        \
        call;                                                                                                           \
        leave();                                                                                                        \
    } while (0)
#define mcu_rows(c, across, y, x, tile, cache)                                                                          \
    GUARDED_CACHE(mcu_rows(c, across, y, x, tile, cache), c, y, x, tile, cache, mcu_max((y)->old, (y)->keep), across)
#define mcu_cols(c, y, x, tile, cache)                                                                                  \
    GUARDED_CACHE(mcu_cols(c, y, x, tile, cache), c, y, x, tile, cache, (y)->n, mcu_max((x)->old, (x)->keep))

#endif
