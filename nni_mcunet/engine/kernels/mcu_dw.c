/* Depth-wise convolution, channel by channel, in place: a ring of kh rows of one channel holds what is still needed
 * of the input, so that the output may overwrite it. */
#include "mcu.h"
#include "mcu_dsp.h"
#include <string.h>

/* Copies window columns of one input row of one channel, padded ones as zp. row: [n_in][c] at the channel, or null for
 * a padded row; line: [cols]. */
static void load_row(const mcu_axis *x, const int8_t *row, int c, int8_t zp, int8_t *line, int cols) {
    const int lo = x->first < 0 ? mcu_min(-x->first, cols) : 0;
    const int hi = row ? mcu_max(lo, mcu_min(cols, x->n_in - x->first)) : lo;
    memset(line, zp, (size_t)lo);
    if (hi > lo) {
        const int8_t *p = row + (x->first + lo) * c;
#pragma GCC unroll 4
        for (int j = lo; j < hi; j++, p += c)
            line[j] = *p;
    }
    memset(line + hi, zp, (size_t)(cols - hi));
}

#if defined(__ARM_FEATURE_DSP)
#define MAX_K 7
#define MAX_QUADS 3 /* (MAX_K + stride 2 + 3) / 4 */

/* Two outputs from the same quads of a row: w[kh][quads][2] holds the taps for the first and, moved by the stride, for
 * the second. weights: [kh][kw]. */
static void pack(const mcu_conv *op, const int8_t *weights, int quads, mcu_quad *w) {
    for (int r = 0; r < op->kh; r++, weights += op->kw) {
        int8_t taps[2][4 * MAX_QUADS] = {{0}};
        memcpy(taps[0], weights, op->kw);
        memcpy(taps[1] + op->sw, weights, op->kw);
        for (int q = 0; q < quads; q++) {
            *w++ = mcu_load4(taps[0] + 4 * q);
            *w++ = mcu_load4(taps[1] + 4 * q);
        }
    }
}

/* Pairs of outputs of one row of channel c; kh and quads are constants where this is inlined. rows: [kh] of the ring,
 * res: [n][channels] at the channel's zero, out likewise. Reads up to 3 bytes behind a row, times zero. */
static inline __attribute__((always_inline)) void pairs(const mcu_conv *o, int c, const int8_t *const *rows, int kh,
                                                        int quads, const mcu_quad *w, int n, const int8_t *res,
                                                        int8_t *out) {
    for (int j = 0; j + 2 <= n; j += 2) {
        int32_t a = o->bias[c], b = a;
        const mcu_quad *k = w;
#pragma GCC unroll 7
        for (int r = 0; r < kh; r++)
#pragma GCC unroll 3
            for (int q = 0; q < quads; q++, k += 2) {
                mcu_quad v = mcu_load4(rows[r] + j * o->sw + 4 * q);
                a = mcu_mac4(v, k[0], a);
                b = mcu_mac4(v, k[1], b);
            }
        mcu_finish(o, c, a, res, out);
        out += o->cout;
        res = res ? res + o->cout : res;
        mcu_finish(o, c, b, res, out);
        out += o->cout;
        res = res ? res + o->cout : res;
    }
}
#endif

/* One channel. in: [y.n_in][x.n_in][c], res: [y.n_res][x.n_res][c] or null, out: [y.n_dst][x.n_dst][c],
 * ring: [kh][cols]. */
static void channel(const mcu_conv *op, int c, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                    const int8_t *res, int8_t *out, int8_t *ring) {
    const mcu_conv o = *op;
    const int cols = (x->n_out - 1) * o.sw + o.kw;
    const int8_t *weights = o.weights + c * o.kh * o.kw;
    int loaded = 0; /* window rows so far; row t is input row first + t, in the ring at t % kh */
#if defined(__ARM_FEATURE_DSP)
    mcu_quad w[MAX_K * MAX_QUADS * 2];
    const int8_t *rows[MAX_K];
    const int quads = (o.kw + o.sw + 3) / 4, fast = o.kh <= MAX_K && o.kw <= MAX_K && o.sw <= 2;
    if (fast)
        pack(op, weights, quads, w);
#endif
    for (int i = 0; i < y->n_out; i++) {
        const int top = i * o.sh;
        const int8_t *sum = res ? res + ((y->res + i) * x->n_res + x->res) * o.cout : res;
        int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst) * o.cout;
        for (int t = mcu_max(loaded, top); t < top + o.kh; t++) {
            const int r = y->first + t;
            const int8_t *row = r >= 0 && r < y->n_in ? in + r * x->n_in * o.cin + c : 0;
            load_row(x, row, o.cin, o.zp_in, ring + t % o.kh * cols, cols);
        }
        loaded = top + o.kh;
        int j = 0;
#if defined(__ARM_FEATURE_DSP)
        if (fast) {
            for (int r = 0; r < o.kh; r++)
                rows[r] = ring + (top + r) % o.kh * cols;
            if (o.kh == 3 && quads == 1)
                pairs(&o, c, rows, 3, 1, w, x->n_out, sum, dst);
            else
                pairs(&o, c, rows, o.kh, quads, w, x->n_out, sum, dst);
            j = x->n_out & ~1;
        }
#endif
        for (; j < x->n_out; j++) {
            int32_t acc = o.bias[c];
            for (int r = 0; r < o.kh; r++)
                for (int q = 0; q < o.kw; q++)
                    acc += ring[(top + r) % o.kh * cols + j * o.sw + q] * weights[r * o.kw + q];
            mcu_finish(&o, c, acc, sum ? sum + j * o.cout : sum, dst + j * o.cout);
        }
    }
}

void mcu_conv_dw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch) {
    for (int c = 0; c < op->cout; c++)
        channel(op, c, y, x, in, res, out, scratch);
}
