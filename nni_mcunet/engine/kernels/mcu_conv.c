/* Point-wise, dense and grouped convolutions: dot products of cin (x kh x kw) values with each row of the weights. */
#include "mcu.h"
#include "mcu_dsp.h"
#include <string.h>

static inline int32_t dot(const int8_t *x, const int8_t *w, int n, int32_t acc) {
    for (int i = 0; i < n; i++)
        acc += x[i] * w[i];
    return acc;
}

static inline void finish(const mcu_conv *op, int c, int32_t acc, const int8_t *res, int8_t *out) {
    out[c] = mcu_result(op, mcu_scale_of(op, c), acc, res ? res + c : res);
}

/* One position from a contiguous window. x: [n], res: [cout] or null, out: [cout]. */
static void one_position(const mcu_conv *op, const int8_t *x, int n, const int8_t *res, int8_t *out) {
    const mcu_conv o = *op; /* a copy: a store to `out` cannot change it */
    int c = 0;
#if defined(__ARM_FEATURE_DSP)
    for (; c + 4 <= o.cout; c += 4) {
        const int8_t *w = o.weights + c * n;
        int32_t a0 = o.bias[c], a1 = o.bias[c + 1], a2 = o.bias[c + 2], a3 = o.bias[c + 3];
        int i = 0;
        for (; i + 4 <= n; i += 4, w += 4) {
            mcu_quad v = mcu_load4(x + i);
            a0 = mcu_mac4(v, mcu_load4(w), a0);
            a1 = mcu_mac4(v, mcu_load4(w + n), a1);
            a2 = mcu_mac4(v, mcu_load4(w + 2 * n), a2);
            a3 = mcu_mac4(v, mcu_load4(w + 3 * n), a3);
        }
        for (; i < n; i++, w++) {
            a0 += x[i] * w[0], a1 += x[i] * w[n];
            a2 += x[i] * w[2 * n], a3 += x[i] * w[3 * n];
        }
        finish(&o, c, a0, res, out);
        finish(&o, c + 1, a1, res, out);
        finish(&o, c + 2, a2, res, out);
        finish(&o, c + 3, a3, res, out);
    }
#endif
    for (; c < o.cout; c++)
        finish(&o, c, dot(x, o.weights + c * n, n, o.bias[c]), res, out);
}

#if defined(__ARM_FEATURE_DSP)
/* Channel c of two neighbouring positions, the first one finished first: `out` may lie on `res`, any number of
 * positions before it. */
static inline void finish_two(const mcu_conv *op, int c, int32_t a, int32_t b, const int8_t *res, int8_t *out) {
    const mcu_scale s = mcu_scale_of(op, c);
    const int m = op->cout;
    out[c] = mcu_result(op, s, a, res ? res + c : res);
    out[m + c] = mcu_result(op, s, b, res ? res + m + c : res);
}

/* Two neighbouring positions, two channels at a time. x: [2][cin], res: [2][cout] or null, out: [2][cout]. */
static inline __attribute__((always_inline)) void two_positions(const mcu_conv *op, const int8_t *x, const int8_t *res,
                                                                int8_t *out) {
    const mcu_conv o = *op;
    const int n = o.cin;
    const int8_t *w = o.weights;
    int c = 0;
    for (; c + 2 <= o.cout; c += 2, w += n) {
        int32_t a0 = o.bias[c], a1 = o.bias[c + 1], b0 = a0, b1 = a1;
        const int8_t *p = x, *const end = x + (n & ~3);
        for (; p != end; p += 4, w += 4) {
            mcu_quad u = mcu_load4(p), v = mcu_load4(p + n), k = mcu_load4(w);
            a0 = mcu_mac4(u, k, a0);
            b0 = mcu_mac4(v, k, b0);
            k = mcu_load4(w + n);
            a1 = mcu_mac4(u, k, a1);
            b1 = mcu_mac4(v, k, b1);
        }
        for (; p != x + n; p++, w++) {
            a0 += p[0] * w[0], a1 += p[0] * w[n];
            b0 += p[n] * w[0], b1 += p[n] * w[n];
        }
        finish_two(&o, c, a0, b0, res, out);
        finish_two(&o, c + 1, a1, b1, res, out);
    }
    for (; c < o.cout; c++)
        finish_two(&o, c, dot(x, w, n, o.bias[c]), dot(x + n, w, n, o.bias[c]), res, out);
}
#endif

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout]. Nothing is padded:
 * 0 <= first <= n_in - n_out. `out` may be `res` where no row is written behind the one it reads: n_dst <= n_res and
 * dst <= res on both axes. */
void mcu_conv_pw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch) {
    (void)scratch;
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *src = in + ((y->first + i) * x->n_in + x->first) * op->cin;
        const int8_t *sum = res ? res + ((y->res + i) * x->n_res + x->res) * op->cout : res;
        int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst) * op->cout;
        int j = 0;
#if defined(__ARM_FEATURE_DSP)
        for (; j + 2 <= x->n_out; j += 2)
            if (sum)
                two_positions(op, src + j * op->cin, sum + j * op->cout, dst + j * op->cout);
            else
                two_positions(op, src + j * op->cin, 0, dst + j * op->cout);
#endif
        for (; j < x->n_out; j++)
            one_position(op, src + j * op->cin, op->cin, sum ? sum + j * op->cout : sum, dst + j * op->cout);
    }
}

/* Copies one window, padded taps as zp_in. in: [y.n_in][x.n_in][cin], window: [kh][kw][cin]. */
static void gather(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, int top, int left, const int8_t *in,
                   int8_t *window) {
    const int line = op->kw * op->cin;
    const int lo = left < 0 ? mcu_min(-left, op->kw) : 0, hi = mcu_max(lo, mcu_min(op->kw, x->n_in - left));
    for (int r = top; r < top + op->kh; r++, window += line) {
        if (r < 0 || r >= y->n_in || lo == hi) {
            memset(window, op->zp_in, (size_t)line);
            continue;
        }
        if (hi - lo < op->kw)
            memset(window, op->zp_in, (size_t)line);
        memcpy(window + lo * op->cin, in + (r * x->n_in + left + lo) * op->cin, (size_t)((hi - lo) * op->cin));
    }
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout],
 * scratch: one window, [kh][kw][cin]. */
void mcu_conv_dense(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                    int8_t *out, int8_t *scratch) {
    const int n = op->kh * op->kw * op->cin;
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const int8_t *sum = res ? res + ((y->res + i) * x->n_res + x->res + j) * op->cout : res;
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->cout;
            gather(op, y, x, y->first + i * op->sh, x->first + j * op->sw, in, scratch);
            one_position(op, scratch, n, sum, dst);
        }
}

/* Copies channels c..c+n-1 of one window, padded taps as zp_in. in: [y.n_in][x.n_in][cin], window: [kh][kw][n]. */
static void gather_channels(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, int top, int left, int c, int n,
                            const int8_t *in, int8_t *window) {
    for (int r = top; r < top + op->kh; r++)
        for (int q = left; q < left + op->kw; q++, window += n)
            if (r < 0 || r >= y->n_in || q < 0 || q >= x->n_in)
                memset(window, op->zp_in, (size_t)n);
            else
                memcpy(window, in + (r * x->n_in + q) * op->cin + c, (size_t)n);
}

/* Channels of group g alone, as a convolution of its own. */
static mcu_conv group_of(const mcu_conv *op, int g, int n) {
    mcu_conv part = *op;
    part.cout = (int16_t)(op->cout / op->groups);
    const int c = g * part.cout;
    part.weights += c * n, part.bias += c, part.mult += c, part.left += c, part.right += c;
    return part;
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout],
 * scratch: one window of one group, [kh][kw][cin / groups]. */
void mcu_conv_group(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                    int8_t *out, int8_t *scratch) {
    const int cin = op->cin / op->groups, cout = op->cout / op->groups, n = op->kh * op->kw * cin;
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const int8_t *sum = res ? res + ((y->res + i) * x->n_res + x->res + j) * op->cout : res;
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->cout;
            for (int g = 0; g < op->groups; g++) {
                const mcu_conv part = group_of(op, g, n);
                gather_channels(op, y, x, y->first + i * op->sh, x->first + j * op->sw, g * cin, cin, in, scratch);
                one_position(&part, scratch, n, sum ? sum + g * cout : sum, dst + g * cout);
            }
        }
}
