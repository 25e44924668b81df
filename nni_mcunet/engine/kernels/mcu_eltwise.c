/* Sums, products and look-ups, element by element, and the parts of a concatenation. */
#include "mcu_mve.h"
#include <string.h>

/* First element that is read of row i of the input, of the second one, and that is written. */
static const int8_t *in_row(const mcu_axis *y, const mcu_axis *x, int i, int c, const int8_t *in) {
    return in + ((y->first + i) * x->n_in + x->first) * c;
}

static const int8_t *res_row(const mcu_axis *y, const mcu_axis *x, int i, int c, const int8_t *res) {
    return res + ((y->res + i) * x->n_res + x->res) * c;
}

static int8_t *out_row(const mcu_axis *y, const mcu_axis *x, int i, int c, int8_t *out) {
    return out + ((y->dst + i) * x->n_dst + x->dst) * c;
}

#if defined(MCU_TWICE)
static inline int32_t requant_twice(int32_t value, int32_t mult, int left, int right) {
#if defined(MCU_DSP)
    return mcu_halves(mcu_high_half(mcu_shl(value, (uint32_t)left), mult), right);
#else
    return mcu_requant_twice(value, mult, left, right);
#endif
}

/* in: [y.n_in][x.n_in][c], res: [y.n_res][x.n_res][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_add_twice(const mcu_sum_twice *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                   int8_t *out) {
    const mcu_sum_twice o = *op;
    const int n = x->n_out * o.c;
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *a = in_row(y, x, i, o.c, in), *b = res_row(y, x, i, o.c, res);
        int8_t *dst = out_row(y, x, i, o.c, out);
        for (int e = 0; e < n; e++) {
            const int32_t sum = requant_twice((a[e] - o.zp_a) * (1 << 20), o.mult_a, 1, o.right_a) +
                                requant_twice((b[e] - o.zp_b) * (1 << 20), o.mult_b, 1, o.right_b);
            dst[e] = mcu_clamp(o.zp_out + requant_twice(sum, o.mult, 1, o.right), o.lo, o.hi);
        }
    }
}
#else
#if defined(MCU_MVE)
/* n > 0 sums, four at a time. a, b, out: [n] */
static __attribute__((noinline)) void sums_of(const mcu_sum *op, const int8_t *a, const int8_t *b, int8_t *out, int n) {
    __asm__ volatile("dlstp.32 lr, %[n]\n 1: vldrb.s32 q0, [%[a]], #4\n vldrb.s32 q1, [%[b]], #4\n"
                     "vmul.i32 q0, q0, %[mult_a]\n vmla.s32 q0, q1, %[mult_b]\n vadd.i32 q0, q0, %q[bias]\n"
                     "vshl.s32 q0, %[shift]\n vqmovnb.s32 q0, q0\n vqadd.s16 q0, q0, %q[zp]\n vqmovnb.s16 q0, q0\n"
                     "vstrb.32 q0, [%[out]], #4\n letp lr, 1b"
                     : [a] "+l"(a), [b] "+l"(b), [out] "+l"(out)
                     : [n] "r"(n), [mult_a] "r"(op->mult_a), [mult_b] "r"(op->mult_b), [shift] "r"(-op->bits),
                       [bias] "w"(vdupq_n_s32(op->bias)), [zp] "w"(vdupq_n_s16(op->zp_out))
                     : "lr", "q0", "q1", "memory");
}
#elif defined(MCU_DSP)
static inline int8_t sum_of(const mcu_sum *op, int32_t a, int32_t b) {
    int32_t v;
    __asm__("mla %0, %1, %2, %3" : "=r"(v) : "r"(a), "r"(op->mult_a), "r"(op->bias));
    return mcu_ssat8_whole(mcu_sar(v + b * op->mult_b, op->bits) + op->zp_out);
}
#endif

/* in: [y.n_in][x.n_in][c], res: [y.n_res][x.n_res][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_add(const mcu_sum *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
             int8_t *out) {
    const mcu_sum o = *op; /* a copy: a store to `out` cannot change it */
    const int n = x->n_out * o.c;
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *a = in_row(y, x, i, o.c, in), *b = res_row(y, x, i, o.c, res);
        int8_t *dst = out_row(y, x, i, o.c, out);
#if defined(MCU_MVE)
        sums_of(&o, a, b, dst, n);
        mcu_clamp_all(dst, n, o.lo, o.hi);
#elif defined(MCU_DSP)
        int8_t *to = dst;
        for (int e = n & 3; e > 0; e--)
            *to++ = sum_of(&o, *a++, *b++);
        for (int e = n >> 2; e > 0; e--, a += 4, b += 4, to += 4)
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++)
                to[q] = sum_of(&o, a[q], b[q]);
        mcu_clamp_all(dst, n, o.lo, o.hi);
#else
        for (int e = 0; e < n; e++) {
            const int32_t sum = a[e] * o.mult_a + o.bias + b[e] * o.mult_b;
            dst[e] = mcu_clamp(o.zp_out + (sum >> o.bits), o.lo, o.hi);
        }
#endif
    }
}
#endif

/* in: [y.n_in][x.n_in][c], res: [y.n_res][x.n_res][c], out: [y.n_dst][x.n_dst][c]. */
void MCU_ROUNDED(mcu_mul)(const mcu_product *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                          const int8_t *res, int8_t *out) {
    const mcu_product o = *op;
    const int step = x->n_res == 1 ? 0 : o.c;
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *a = in_row(y, x, i, o.c, in), *b = res_row(y, x, y->n_res == 1 ? 0 : i, o.c, res);
        int8_t *dst = out_row(y, x, i, o.c, out);
        for (int j = 0; j < x->n_out; j++, a += o.c, b += step, dst += o.c)
            for (int c = 0; c < o.c; c++) {
                const int32_t product = (a[c] - o.zp_a) * (b[c] - o.zp_b);
                const int32_t v = MCU_ROUNDED(mcu_requant)(product, o.factor.mult, o.factor.left, o.factor.right);
                dst[c] = mcu_clamp(o.zp_out + v, -128, 127);
            }
    }
}

#if !defined(MCU_TWICE)
/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_act(const mcu_table *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    const int8_t *const table = op->table + 128;
    const int n = x->n_out * op->c;
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *src = in_row(y, x, i, op->c, in);
        int8_t *dst = out_row(y, x, i, op->c, out);
        for (int e = 0; e < n; e++)
            dst[e] = table[src[e]];
    }
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_act_channels(const mcu_table *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *src = in_row(y, x, i, op->c, in);
        int8_t *dst = out_row(y, x, i, op->c, out);
        for (int j = 0; j < x->n_out; j++) {
            const int8_t *table = op->table + 128;
            for (int c = 0; c < op->c; c++, table += 256)
                *dst++ = table[*src++];
        }
    }
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][cout]. */
void mcu_concat(const mcu_table *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    const mcu_table o = *op;
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *src = in_row(y, x, i, o.c, in);
        int8_t *dst = out_row(y, x, i, o.cout, out) + o.at;
        for (int j = 0; j < x->n_out; j++, src += o.c, dst += o.cout)
            if (o.table)
                for (int c = 0; c < o.c; c++)
                    dst[c] = o.table[src[c] + 128];
            else
                memcpy(dst, src, (size_t)o.c);
    }
}
#endif
