/* Compiled in before mcu_model.c by prove.py: while a kernel runs, only what its arguments say it may touch of the arena
 * can be touched; all else is poisoned for the address sanitizer, in steps of 8 bytes. In front of the run the arena is
 * garbage. */
#ifndef GUARDED_H
#define GUARDED_H
#include "mcu.h"
#include "mcu_model.h"
#include <sanitizer/asan_interface.h>
#include <string.h>

static void allow(const int8_t *from, int rows, int cols, int c) {
    if (from)
        __asan_unpoison_memory_region(from, (size_t)(rows * cols * c));
}

static void guard(const mcu_axis *y, const mcu_axis *x, const int8_t *in, int cin, const int8_t *res,
                  const int8_t *out, int cout) {
    __asan_poison_memory_region(mcu_arena, sizeof mcu_arena);
    allow(in, y->n_in, x->n_in, cin);
    allow(res, y->n_res, x->n_res, cout);
    allow(out, y->n_dst, x->n_dst, cout);
}

static void release(void) { __asan_unpoison_memory_region(mcu_arena, sizeof mcu_arena); }

#define COLS(op, x) (((x)->n_out - 1) * (op)->sw + (op)->kw)
#define GUARDED_CONV(kernel, SCRATCH, op, y, x, in, res, out, scratch)                                                  \
    do {                                                                                                                \
        guard(y, x, in, (op)->cin, res, out, (op)->cout);                                                               \
        allow(scratch, 1, 1, SCRATCH((op)->cin / (op)->groups, (op)->kh, (op)->kw, COLS(op, x)));                       \
        kernel(op, y, x, in, res, out, scratch);                                                                        \
        release();                                                                                                      \
    } while (0)
#define mcu_conv_pw(...) GUARDED_CONV(mcu_conv_pw, MCU_CONV_PW_SCRATCH, __VA_ARGS__)
#define mcu_conv_dense(...) GUARDED_CONV(mcu_conv_dense, MCU_CONV_DENSE_SCRATCH, __VA_ARGS__)
#define mcu_conv_group(...) GUARDED_CONV(mcu_conv_group, MCU_CONV_GROUP_SCRATCH, __VA_ARGS__)
#define mcu_conv_dw(...) GUARDED_CONV(mcu_conv_dw, MCU_CONV_DW_SCRATCH, __VA_ARGS__)

#define GUARDED(kernel, op, y, x, in, res, out, cout, ...)                                                              \
    do {                                                                                                                \
        guard(y, x, in, (op)->c, res, out, cout);                                                                       \
        kernel(op, y, x, in, __VA_ARGS__);                                                                              \
        release();                                                                                                      \
    } while (0)
#define mcu_maxpool(op, y, x, in, out) GUARDED(mcu_maxpool, op, y, x, in, 0, out, (op)->c, out)
#define mcu_avgpool(op, y, x, in, out) GUARDED(mcu_avgpool, op, y, x, in, 0, out, (op)->c, out)
#define mcu_gap(op, y, x, in, out) GUARDED(mcu_gap, op, y, x, in, 0, out, (op)->c, out)
#define mcu_pad(op, y, x, in, out) GUARDED(mcu_pad, op, y, x, in, 0, out, (op)->c, out)
#define mcu_upsample(op, y, x, in, out) GUARDED(mcu_upsample, op, y, x, in, 0, out, (op)->c, out)
#define mcu_act(op, y, x, in, out) GUARDED(mcu_act, op, y, x, in, 0, out, (op)->c, out)
#define mcu_softmax(op, y, x, in, out) GUARDED(mcu_softmax, op, y, x, in, 0, out, (op)->c, out)
#define mcu_concat(op, y, x, in, out) GUARDED(mcu_concat, op, y, x, in, 0, out, (op)->cout, out)
#define mcu_add(op, y, x, in, res, out) GUARDED(mcu_add, op, y, x, in, res, out, (op)->c, res, out)
#define mcu_mul(op, y, x, in, res, out) GUARDED(mcu_mul, op, y, x, in, res, out, (op)->c, res, out)

/* The caches: positions across or along the tile, as many as it takes out or puts in. */
#define GUARDED_CACHE(call, c, y, x, tile, cache, high, wide)                                                           \
    do {                                                                                                                \
        __asan_poison_memory_region(mcu_arena, sizeof mcu_arena);                                                       \
        allow(tile, (y)->n, (x)->n, c);                                                                                 \
        allow(cache, high, wide, c);                                                                                    \
        call;                                                                                                           \
        release();                                                                                                      \
    } while (0)
#define mcu_rows(c, across, y, x, tile, cache)                                                                          \
    GUARDED_CACHE(mcu_rows(c, across, y, x, tile, cache), c, y, x, tile, cache, mcu_max((y)->old, (y)->keep), across)
#define mcu_cols(c, y, x, tile, cache)                                                                                  \
    GUARDED_CACHE(mcu_cols(c, y, x, tile, cache), c, y, x, tile, cache, (y)->n, mcu_max((x)->old, (x)->keep))

__attribute__((constructor)) static void fill_with_garbage(void) { memset(mcu_arena, 0x5a, sizeof mcu_arena); }

#endif
