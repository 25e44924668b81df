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
/* Four taps of both channels of a pair. */
static inline void dot_quad(mcu_quad x, const int8_t *w, int32_t acc[2]) {
    const mcu_quad even = mcu_load4(w), odd = mcu_load4(w + 4);
    acc[0] = __smlad(x.odd, odd.even, __smlad(x.even, even.even, acc[0]));
    acc[1] = __smlad(x.odd, odd.odd, __smlad(x.even, even.odd, acc[1]));
}

static inline void dot_pair(const int8_t *x, const int8_t *w, int n, int32_t acc[2]) {
    for (const int8_t *end = x + (n & ~3); x != end; x += 4, w += 8)
        dot_quad(mcu_load4(x), w, acc);
    if (n & 3)
        dot_quad(mcu_load_rest(x, n & 3), w, acc);
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

/* Three positions, `step` bytes apart; the end of the columns. */
static int8_t *expand_three(const int8_t *x, int step, int n, int8_t *columns) {
    const int8_t *p = x, *q = x + step, *r = q + step;
    int quads = n / 4;
    uint32_t u, v, w;
    if (quads)
        __asm__ volatile("1:\n ldr %[u], [%[p]], #4\n ldr %[v], [%[q]], #4\n ldr %[w], [%[r]], #4\n"
                         "sxtb16 r4, %[u]\n sxtb16 r5, %[v]\n sxtb16 r6, %[w]\n stmia %[c]!, {r4, r5, r6}\n"
                         "sxtb16 r4, %[u], ror #8\n sxtb16 r5, %[v], ror #8\n sxtb16 r6, %[w], ror #8\n"
                         "stmia %[c]!, {r4, r5, r6}\n subs %[n], #1\n bne 1b\n"
                         : [p] "+r"(p), [q] "+r"(q), [r] "+r"(r), [c] "+r"(columns), [n] "+r"(quads), [u] "=&r"(u),
                           [v] "=&r"(v), [w] "=&r"(w)
                         :
                         : "r4", "r5", "r6", "cc", "memory");
    if (n & 3) {
        expand(p, n & 3, columns);
        expand(q, n & 3, columns + 4);
        expand(r, n & 3, columns + 8);
        columns += TRIPLE;
    }
    return columns;
}

/* Two taps: r3..r5 of three positions, r1 and r2 of two channels. A quad has 80 bytes. */
#define TAPS                                                                                                            \
    "ldmia.w r0!, {r3, r4, r5}\n ldr.w r1, [r12], #4\n sxtb16.w r2, r1\n sxtb16.w r1, r1, ror #8\n"                     \
    "smlad r6, r3, r2, r6\n smlad r7, r4, r2, r7\n smlad r8, r5, r2, r8\n"                                              \
    "smlad r9, r3, r1, r9\n smlad r10, r4, r1, r10\n smlad r11, r5, r1, r11\n"
#define QUAD TAPS TAPS
#define QUAD_BYTES 80
/* Three positions of a convolution from columns of so many quads, which four at a time are unrolled: turns of that loop,
 * and the bytes of code skipped in the first. */
typedef struct {
    const int8_t *columns;
    int skipped, turns;
    const mcu_pair *pair;
    int zp; /* 2 * zp_out + 1 */
    int8_t *out; /* of the first position */
    int cout;
    int8_t *end; /* of out, behind the last whole pair */
    const int8_t *weights;
    int step, plain; /* bytes of a pair's weights; whether no channel is shifted left */
} mcu_triple;

static mcu_triple triple(const mcu_conv *op, const int8_t *columns, int taps) {
    const int quads = (taps + 3) / 4, turns = (quads + 3) / 4;
    unsigned left = 0;
    for (const mcu_pair *pair = op->pairs, *end = pair + (op->cout + 1) / 2; pair != end; pair++)
        left |= pair->left[0] | pair->left[1];
    const mcu_triple t = {.columns = columns, .skipped = (4 * turns - quads) * QUAD_BYTES, .turns = turns,
                          .zp = 2 * op->zp_out + 1, .cout = op->cout, .step = 8 * quads, .plain = !left};
    return t;
}

/* Dot products from the biases r6 and r9 with columns r0, bytes skipped r2, weights r12 and turns r14. */
#define DOTS                                                                                                            \
    "mov r7, r6\n mov r8, r6\n mov r10, r9\n mov r11, r9\n add pc, r2\n nop.n\n"                                        \
    "1:\n" QUAD QUAD QUAD QUAD "subs.w r14, #1\n bne.w 1b\n"
/* Results of a channel, see mcu_dsp.h: cout in r0, 2 * zp_out + 1 in r1, out in r2, right - 1 in r5. */
#define RESULTS(mult, a, b, c)                                                                                          \
    "lsl r14, r1, r5\n smmla " a ", " a ", " mult ", r14\n smmla " b ", " b ", " mult ", r14\n"                         \
    "smmla " c ", " c ", " mult ", r14\n asr " a ", r5\n asr " b ", r5\n asr " c ", r5\n"                               \
    "ssat " a ", #8, " a ", asr #1\n ssat " b ", #8, " b ", asr #1\n ssat " c ", #8, " c ", asr #1\n"                   \
    "strb " b ", [r2, r0]\n strb " c ", [r2, r0, lsl #1]\n strb " a ", [r2], #1\n"

/* All whole pairs of channels, none shifted left. */
static __attribute__((naked, noipa)) void three_plain(mcu_triple *t __attribute__((unused))) {
    __asm__("push {r0, r4-r11, r14}\n ldr r12, [r0, #32]\n"
            "2: ldr r1, [sp]\n ldr r3, [r1, #12]\n ldm r3!, {r6, r9}\n str r3, [r1, #12]\n ldm r1, {r0, r2, r14}\n" DOTS
            "ldr r0, [sp]\n ldr r14, [r0, #12]\n ldm r14!, {r3, r4, r5}\n str r14, [r0, #12]\n"
            "ldrd r1, r2, [r0, #16]\n ldr r0, [r0, #24]\n" RESULTS("r3", "r6", "r7", "r8")
            "lsr r5, #8\n" RESULTS("r4", "r9", "r10", "r11")
            "ldr r0, [sp]\n str r2, [r0, #20]\n ldr r1, [r0, #28]\n cmp r2, r1\n bne.w 2b\n pop {r0, r4-r11, pc}");
}

/* One pair of channels: its dot products of three positions. */
static __attribute__((naked, noipa)) void three_dots(const mcu_triple *t __attribute__((unused)),
                                                     int32_t dots[6] __attribute__((unused))) {
    __asm__("push {r1, r4-r11, r14}\n ldr r12, [r0, #32]\n ldr r1, [r0, #12]\n ldm r1, {r6, r9}\n mov r1, r0\n"
            "ldm r1, {r0, r2, r14}\n" DOTS "pop {r0}\n stm r0, {r6-r11}\n pop {r4-r11, pc}");
}

/* A channel of three positions, see mcu_dsp.h; the first one is finished first: `out` may lie on `res`, any number of
 * positions before it. res: [3][cout] or null, out: [3][cout]. */
static inline __attribute__((always_inline)) void finish_three(const mcu_conv *op, const mcu_pair *pair, int c,
                                                               const int32_t dots[3], const int8_t *res, int8_t *out) {
    const int32_t mult = pair->mult[c], half = 1 << pair->right[c];
    const uint32_t left = pair->left[c], right = pair->right[c];
    const int cout = op->cout, bits = op->res_bits, zp_out = op->zp_out;
    const int32_t res_mult = op->res_mult, bias = res ? (1 << (bits - 1)) - op->res_zp * res_mult : 0;
    for (int p = 0; p < 3; p++, out += cout) {
        int32_t v = mcu_sar(mcu_high(mcu_shl(dots[p], left), mult, half), right) >> 1;
        if (res)
            v = (v + *res * res_mult + bias) >> bits, res += cout;
        *out = (int8_t)__ssat(zp_out + v, 8);
    }
}

/* Any pair. */
static void three_any(const mcu_conv *op, mcu_triple *t, int c, const int8_t *res, int8_t *out) {
    int32_t dots[6];
    three_dots(t, dots);
    for (int i = 0; i < 2 && c + i < op->cout; i++)
        if (res)
            finish_three(op, t->pair, i, dots + 3 * i, res + c + i, out + c + i);
        else
            finish_three(op, t->pair, i, dots + 3 * i, 0, out + c + i);
}

static void three_positions(const mcu_conv *op, mcu_triple *t, const int8_t *res, int8_t *out) {
    int c = 0;
    t->pair = op->pairs, t->weights = op->weights;
    if (t->plain && !res && op->cout > 1) {
        c = op->cout & ~1;
        t->out = out, t->end = out + c;
        three_plain(t);
        t->weights += c / 2 * t->step;
    }
    for (; c < op->cout; c += 2, t->pair++, t->weights += t->step)
        three_any(op, t, c, res, out);
}
#endif

/* n positions in a row. in: [n][cin], res: [n][cout] or null, out: [n][cout]. */
static void positions(const mcu_conv *op, int n, const int8_t *in, const int8_t *res, int8_t *out, int8_t *scratch) {
    int j = 0;
#if defined(MCU_DSP)
    mcu_triple t = triple(op, scratch, op->cin);
    for (; j + 3 <= n; j += 3) {
        expand_three(in + j * op->cin, op->cin, op->cin, scratch);
        three_positions(op, &t, res ? res + j * op->cout : 0, out + j * op->cout);
    }
    mcu_clamp_all(out, j * op->cout, op->lo, op->hi);
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
    for (const int8_t *end = from + (n & ~3); from != end; from += 4, to += 4)
        memcpy(to, from, 4);
    for (const int8_t *end = from + (n & 3); from != end;)
        *to++ = *from++;
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

#if defined(MCU_DSP)
/* n values zp_in of one position's columns, n a multiple of 4; where the next ones go. */
static int8_t *expand_zero(const mcu_conv *op, int n, int8_t *columns) {
    const uint32_t both = mcu_pair16(op->zp_in, op->zp_in);
    for (; n > 0; n -= 4, columns += TRIPLE) {
        memcpy(columns, &both, 4);
        memcpy(columns + TRIPLE / 2, &both, 4);
    }
    return columns;
}

/* One position's columns, cin a multiple of 4. */
static void expand_window(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, int top, int left,
                          const int8_t *in, int8_t *columns) {
    const mcu_inside cols = inside(op, x, left);
    const int n = (cols.hi - cols.lo) * op->cin;
    for (int r = top; r < top + op->kh; r++) {
        if (r < 0 || r >= y->n_in) {
            columns = expand_zero(op, op->kw * op->cin, columns);
            continue;
        }
        columns = expand_zero(op, cols.lo * op->cin, columns);
        expand(in + (r * x->n_in + left + cols.lo) * op->cin, n, columns);
        columns = expand_zero(op, (op->kw - cols.hi) * op->cin, columns + n / 4 * TRIPLE);
    }
}

/* Copies one window inside the input; the constants are the first layer's of an RGB image. row: its first tap. */
static inline void gather_inside(const mcu_conv *op, const int8_t *row, int stride, int8_t *window) {
    const int line = op->kw * op->cin;
    if (line == 9 && op->kh == 3)
        for (int r = 0; r < 3; r++)
            copy(window + 9 * r, row + r * stride, 9);
    else
        for (int r = 0; r < op->kh; r++, row += stride, window += line)
            copy(window, row, line);
}

/* Three positions' columns, the first one at row i and column j of the output, the others behind it, also in the next
 * row. Where cin is no multiple of 4, windows are gathered behind the columns first. */
static void expand_windows(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, int i, int j, const int8_t *in,
                           int8_t *columns) {
    const int n = op->kh * op->kw * op->cin, top = y->first + i * op->sh, left = x->first + j * op->sw;
    int8_t *const windows = columns + TRIPLE / 4 * MCU_ROUND4(n);
    const int8_t *row = in + (top * x->n_in + left) * op->cin;
    const int stride = x->n_in * op->cin, apart = op->sw * op->cin, fours = op->cin % 4 == 0;
    const int easy = top >= 0 && top + op->kh <= y->n_in && left >= 0 && j + 3 <= x->n_out &&
                     left + 2 * op->sw + op->kw <= x->n_in;
    if (easy && fours) {
        for (int r = 0; r < op->kh; r++, row += stride)
            columns = expand_three(row, apart, op->kw * op->cin, columns);
        return;
    }
    for (int p = 0; p < 3; p++) {
        const int at_y = y->first + i * op->sh, at_x = x->first + j * op->sw;
        int8_t *const window = windows + p * MCU_ROUND4(n);
        if (fours)
            expand_window(op, y, x, at_y, at_x, in, columns + 4 * p);
        else if (easy)
            gather_inside(op, row + p * apart, stride, window);
        else
            gather(op, y, x, at_y, at_x, in, window);
        if (++j == x->n_out)
            i++, j = 0;
    }
    if (!fours) /* what lies behind a window meets weights of zero */
        expand_three(windows, MCU_ROUND4(n), MCU_ROUND4(n), columns);
}
#endif

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout], scratch: one window,
 * [kh][kw][cin], or columns. */
void mcu_conv_dense(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                    int8_t *out, int8_t *scratch) {
    const int taps = op->kh * op->kw * op->cin, whole = x->n_dst == x->n_out && (!res || x->n_res == x->n_out);
    const int rows = whole ? 1 : y->n_out, n = whole ? y->n_out * x->n_out : x->n_out;
    for (int row = 0; row < rows; row++) {
        const int8_t *sum = res ? res + ((y->res + row) * x->n_res + x->res) * op->cout : 0;
        int8_t *dst = out + ((y->dst + row) * x->n_dst + x->dst) * op->cout;
        int m = 0, i = row, j = 0;
#if defined(MCU_DSP)
        mcu_triple t = triple(op, scratch, taps);
        for (; m + 3 <= n; m += 3) {
            expand_windows(op, y, x, i, j, in, scratch);
            three_positions(op, &t, sum ? sum + m * op->cout : 0, dst + m * op->cout);
            for (j += 3; j >= x->n_out; j -= x->n_out)
                i++;
        }
        mcu_clamp_all(dst, m * op->cout, op->lo, op->hi);
#endif
        for (; m < n; m++) {
            gather(op, y, x, y->first + i * op->sh, x->first + j * op->sw, in, scratch);
            one_position(op, scratch, taps, sum ? sum + m * op->cout : 0, dst + m * op->cout);
            if (++j == x->n_out)
                i++, j = 0;
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
