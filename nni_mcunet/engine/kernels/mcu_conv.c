/* Point-wise, dense and grouped convolutions: dot products of cin (x kh x kw) values with each row of the weights. */
#include "mcu_dsp.h"
#include <string.h>

/* A channel's dot product with its packed weights; w: of its pair, from its place in it on. */
static inline int32_t dot(const int8_t *x, const int8_t *w, int n, int32_t acc) {
    for (int i = 0; i < n; i++)
        acc += x[i] * w[(i & ~3) * 2 + (i & 1) * 4 + (i & 2)];
    return acc;
}

static inline void finish(const mcu_conv *op, int c, int32_t acc, const int8_t *res, int8_t *out) {
    out[c] = mcu_result(op, mcu_scale_of(op, c), acc, res ? res + c : res);
}

#if defined(MCU_DSP)
/* Both channels of a pair. */
static void dot_pair(const int8_t *x, const int8_t *w, int n, int32_t acc[2]) {
    int32_t a = acc[0], b = acc[1];
    for (; n > 0; n -= 4, x += 4, w += 8) {
        const mcu_quad v = n < 4 ? mcu_load_rest(x, n) : mcu_load4(x), even = mcu_load4(w), odd = mcu_load4(w + 4);
        a = __smlad(v.odd, odd.even, __smlad(v.even, even.even, a));
        b = __smlad(v.odd, odd.odd, __smlad(v.even, even.odd, b));
    }
    acc[0] = a, acc[1] = b;
}
#endif

/* One position from a contiguous window. x: [n], res: [cout] or null, out: [cout]. */
static void one_position(const mcu_conv *op, const int8_t *x, int n, const int8_t *res, int8_t *out) {
    const mcu_conv o = *op; /* a copy: a store to `out` cannot change it */
    const int step = 2 * MCU_ROUND4(n);
    const int8_t *w = o.weights;
    for (int c = 0; c < o.cout; c += 2, w += step) {
        int32_t acc[2] = {mcu_bias(&o, c), o.pairs[c >> 1].bias[1]};
#if defined(MCU_DSP)
        dot_pair(x, w, n, acc);
#else
        acc[0] = dot(x, w, n, acc[0]);
        acc[1] = dot(x, w + 1, n, acc[1]);
#endif
        finish(&o, c, acc[0], res, out);
        if (c + 1 < o.cout)
            finish(&o, c + 1, acc[1], res, out);
    }
}

#if defined(MCU_DSP)
/* Three positions at once, as int16: [quads][2][3][2], of a quad of taps 0..3 first 0 and 2, then 1 and 3. */
enum { TRIPLE = 24 }; /* bytes a quad */

/* One position's part of the columns. x: [n]. */
static void expand(const int8_t *x, int n, int8_t *columns) {
    for (; n > 0; n -= 4, x += 4, columns += TRIPLE) {
        const mcu_quad v = n < 4 ? mcu_load_rest(x, n) : mcu_load4(x);
        memcpy(columns, &v.even, 4);
        memcpy(columns + TRIPLE / 2, &v.odd, 4);
    }
}

/* A quad: r4..r6 are two taps of three positions, %[w] and %[v] of two channels. 80 bytes. */
#define TAPS                                                                                                            \
    "ldmia.w %[x]!, {r4, r5, r6}\n ldr.w %[w], [%[k]], #4\n sxtb16.w %[v], %[w]\n sxtb16.w %[w], %[w], ror #8\n"        \
    "smlad %[a0], r4, %[v], %[a0]\n smlad %[a1], r5, %[v], %[a1]\n smlad %[a2], r6, %[v], %[a2]\n"                     \
    "smlad %[b0], r4, %[w], %[b0]\n smlad %[b1], r5, %[w], %[b1]\n smlad %[b2], r6, %[w], %[b2]\n"
#define QUAD TAPS TAPS
#define UNROLLED 4
#define QUAD_BYTES 80

/* A result; r: right - 1, half: (2 * zp_out + 1) << r, with a residual 1 << r. */
static inline int8_t result(const mcu_conv *op, int32_t acc, int32_t mult, int32_t half, uint32_t r,
                            const int8_t *res) {
    int32_t v = mcu_sar(mcu_high(acc, mult, half), r);
    if (res) {
        v = ((v >> 1) + (*res - op->res_zp) * op->res_mult + (int32_t)(1u << (op->res_bits - 1))) >> op->res_bits;
        return mcu_ssat8(2 * (op->zp_out + v));
    }
    return mcu_ssat8(v);
}

/* Columns -> three positions. Of a channel the first one is finished first: `out` may lie on `res`, any number of
 * positions before it. res: [3][cout] or null, out: [3][cout]. */
static inline __attribute__((always_inline)) void three_positions(const mcu_conv *op, const int8_t *columns, int quads,
                                                                  const int8_t *res, int8_t *out) {
    const mcu_conv o = *op;
    const mcu_pair *pair = o.pairs;
    const int8_t *k = o.weights;
    const int m = o.cout, zp = res ? 1 : 2 * o.zp_out + 1;
    const int turns = (quads + UNROLLED - 1) / UNROLLED, skipped = (turns * UNROLLED - quads) * QUAD_BYTES;
    for (int c = 0; c < m; pair++) {
        int32_t a0 = pair->bias[0], a1 = a0, a2 = a0, b0 = pair->bias[1], b1 = b0, b2 = b0;
        const int8_t *x = columns;
        int n = turns, w, v = skipped;
        __asm__ volatile("add pc, %[v]\n nop.n\n 1:\n" QUAD QUAD QUAD QUAD "subs %[n], #1\n bne 1b\n"
                         : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [b0] "+r"(b0), [b1] "+r"(b1), [b2] "+r"(b2),
                           [x] "+r"(x), [k] "+r"(k), [n] "+r"(n), [w] "=&r"(w), [v] "+&r"(v)
                         :
                         : "r4", "r5", "r6", "cc", "memory");
        uint32_t r;
        memcpy(&r, pair->right, 4); /* right of both, left of both */
        if (r >> 16) {
            a0 = mcu_shl(a0, r >> 16), a1 = mcu_shl(a1, r >> 16), a2 = mcu_shl(a2, r >> 16);
            b0 = mcu_shl(b0, r >> 24), b1 = mcu_shl(b1, r >> 24), b2 = mcu_shl(b2, r >> 24);
        }
        const int32_t half = mcu_shl(zp, r), mult = pair->mult[0];
        out[c] = result(&o, a0, mult, half, r, res ? res + c : 0);
        out[c + m] = result(&o, a1, mult, half, r, res ? res + c + m : 0);
        out[c + 2 * m] = result(&o, a2, mult, half, r, res ? res + c + 2 * m : 0);
        if (++c == m)
            return;
        const uint32_t s = r >> 8;
        const int32_t half_b = mcu_shl(zp, s), mult_b = pair->mult[1];
        out[c] = result(&o, b0, mult_b, half_b, s, res ? res + c : 0);
        out[c + m] = result(&o, b1, mult_b, half_b, s, res ? res + c + m : 0);
        out[c + 2 * m] = result(&o, b2, mult_b, half_b, s, res ? res + c + 2 * m : 0);
        c++;
    }
}

static __attribute__((noinline)) void three(const mcu_conv *op, const int8_t *columns, int n, const int8_t *res,
                                            int8_t *out) {
    if (res)
        three_positions(op, columns, (n + 3) / 4, res, out);
    else
        three_positions(op, columns, (n + 3) / 4, 0, out);
}

/* Clamps results that saturated at the ends of int8. out: [n]. */
static void clamp(const mcu_conv *op, int8_t *out, int n) {
    if (op->lo > -128 || op->hi < 127)
        for (int i = 0; i < n; i++)
            out[i] = mcu_clamp(out[i], op->lo, op->hi);
}
#endif

/* n positions in a row. in: [n][cin], res: [n][cout] or null, out: [n][cout]. */
static void positions(const mcu_conv *op, int n, const int8_t *in, const int8_t *res, int8_t *out, int8_t *scratch) {
    int j = 0;
#if defined(MCU_DSP)
    const int cin = op->cin;
    for (; j + 3 <= n; j += 3) {
        for (int p = 0; p < 3; p++)
            expand(in + (j + p) * cin, cin, scratch + 4 * p);
        three(op, scratch, cin, res ? res + j * op->cout : 0, out + j * op->cout);
    }
    clamp(op, out, j * op->cout);
#else
    (void)scratch;
#endif
    for (; j < n; j++)
        one_position(op, in + j * op->cin, op->cin, res ? res + j * op->cout : 0, out + j * op->cout);
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout]. Nothing is padded:
 * 0 <= first <= n_in - n_out. `out` may be `res` where no row is written behind the one it reads: n_dst <= n_res and
 * dst <= res on both axes. */
void mcu_conv_pw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch) {
    const int whole = x->n_in == x->n_out && x->n_dst == x->n_out && (!res || x->n_res == x->n_out);
    const int rows = whole ? 1 : y->n_out, n = whole ? y->n_out * x->n_out : x->n_out;
    for (int i = 0; i < rows; i++)
        positions(op, n, in + ((y->first + i) * x->n_in + x->first) * op->cin,
                  res ? res + ((y->res + i) * x->n_res + x->res) * op->cout : 0,
                  out + ((y->dst + i) * x->n_dst + x->dst) * op->cout, scratch);
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

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout], scratch: one window,
 * [kh][kw][cin], behind it the columns. */
void mcu_conv_dense(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                    int8_t *out, int8_t *scratch) {
    const int n = op->kh * op->kw * op->cin;
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *sum = res ? res + ((y->res + i) * x->n_res + x->res) * op->cout : 0;
        int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst) * op->cout;
        int j = 0;
#if defined(MCU_DSP)
        int8_t *const columns = scratch + MCU_ROUND4(n);
        for (; j + 3 <= x->n_out; j += 3) {
            for (int p = 0; p < 3; p++) {
                gather(op, y, x, y->first + i * op->sh, x->first + (j + p) * op->sw, in, scratch);
                expand(scratch, n, columns + 4 * p);
            }
            three(op, columns, n, sum ? sum + j * op->cout : 0, dst + j * op->cout);
        }
        clamp(op, dst, j * op->cout);
#endif
        for (; j < x->n_out; j++) {
            gather(op, y, x, y->first + i * op->sh, x->first + j * op->sw, in, scratch);
            one_position(op, scratch, n, sum ? sum + j * op->cout : 0, dst + j * op->cout);
        }
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
    const int pairs = (part.cout + 1) / 2;
    part.pairs += g * pairs, part.weights += g * pairs * 2 * MCU_ROUND4(n);
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
