/* Windows of a convolution, gathered: what lies outside the input is its zero point. */
#ifndef MCU_WINDOWS_H
#define MCU_WINDOWS_H
#include "mcu_mve.h"
#include <string.h>

#if defined(__cplusplus)
extern "C" {
#endif

/* Columns of a window that lie inside the input: from lo to hi - 1. */
typedef struct {
    int lo, hi;
} mcu_inside;

static mcu_inside inside(const mcu_conv *op, const mcu_axis *x, int left) {
    const int lo = left < 0 ? mcu_min(-left, op->kw) : 0;
    const mcu_inside in = {lo, mcu_max(lo, mcu_min(op->kw, x->n_in - left))};
    return in;
}

/* A memcpy of a few bytes. */
static inline void copy(int8_t *to, const int8_t *from, int n) {
#if defined(MCU_MVE)
    mcu_copy(to, from, n);
#else
    for (const int8_t *end = from + (n & ~3); from != end; from += 4, to += 4)
        memcpy(to, from, 4);
    for (const int8_t *end = from + (n & 3); from != end;)
        *to++ = *from++;
#endif
}

/* Copies one window, padded taps as zp_in. in: [y.n_in][x.n_in][cin], window: [kh][kw][cin]. */
static void gather(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, int top, int left, const int8_t *in,
                   int8_t *window) {
    const mcu_inside cols = inside(op, x, left);
    const int cin = op->cin, zp = op->zp_in, line = op->kw * cin, n = (cols.hi - cols.lo) * cin, high = y->n_in;
    const int bottom = top + op->kh, stride = x->n_in * cin;
    int at = (top * x->n_in + left + cols.lo) * cin;
    for (int r = top; r < bottom; r++, window += line, at += stride)
        if (r < 0 || r >= high || n == 0)
            memset(window, zp, (size_t)line);
        else {
            if (n < line)
                memset(window, zp, (size_t)line);
            copy(window + cols.lo * cin, in + at, n);
        }
}

#if defined(__cplusplus)
}
#endif

#endif
