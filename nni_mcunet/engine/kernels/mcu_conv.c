/* Point-wise, dense and grouped convolutions: dot products of cin (x kh x kw) values with each row of the weights. */
#include "mcu_columns.h"
#include "mcu_windows.h"
#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && !defined(__OPTIMIZE__) && !defined(MCU_UNOPTIMISED)
#warning "compiled at -O0: the same bytes, about 24 times slower. Give -O1 or more, or -DMCU_UNOPTIMISED to accept it."
#endif

#if defined(MCU_DSP)
/* Values as int16: [quads][2][2], of a quad first 0 and 2, then 1 and 3; zeros behind the last. x: [n]. */
static inline void widen(const int8_t *x, int n, int8_t *wide) {
    for (; n > 0; n -= 4, x += 4, wide += 8) {
        const mcu_quad v = n < 4 ? mcu_load_rest(x, n) : mcu_load4(x);
        memcpy(wide, &v.even, 4);
        memcpy(wide + 4, &v.odd, 4);
    }
}

/* Two words of packed weights, taps x and y of both channels. */
#if defined(MCU_RAW)
#define DOT_QUAD(x, y)                                                                                                  \
    "ldm r1!, {r8, r10}\n sxtb16 r11, r8\n smlad r3, " x ", r11, r3\n smlad r12, " x ", r8, r12\n"                      \
    "sxtb16 r11, r10\n smlad r3, " y ", r11, r3\n smlad r12, " y ", r10, r12\n"
#define SECOND_SUM "sub r1, r12, r3\n"
#else
#define DOT_QUAD(x, y)                                                                                                  \
    "ldm r1!, {r8, r10}\n sxtb16 r11, r8\n smlad r3, " x ", r11, r3\n sxtb16 r8, r8, ror #8\n"                         \
    "smlad r12, " x ", r8, r12\n sxtb16 r11, r10\n smlad r3, " y ", r11, r3\n sxtb16 r10, r10, ror #8\n"               \
    "smlad r12, " y ", r10, r12\n"
#define SECOND_SUM "mov r1, r12\n"
#endif

/* A pair's biases and dot products with its packed weights, the second channel's in the upper half. x: as int16 */
/* clang-format off */
static MCU_NAKED int64_t dot_pair(const int8_t *x MCU_UNUSED, const int8_t *w MCU_UNUSED, int quads MCU_UNUSED,
                                  const mcu_pair *pair MCU_UNUSED) {
    __asm__("push {r4-r8, r10, r11, r14}\n ldrd r3, r12, [r3]\n lsrs r2, r2, #1\n bcc 1f\n ldm r0!, {r4, r5}\n"
            DOT_QUAD("r4", "r5") "1: beq 3f\n 2: ldm r0!, {r4, r5, r6, r7}\n" DOT_QUAD("r4", "r5") DOT_QUAD("r6", "r7")
            "subs r2, #1\n bne 2b\n 3: mov r0, r3\n" SECOND_SUM "pop {r4-r8, r10, r11, pc}");
}
/* clang-format on */
#else
/* The second channel's weight out of both as they lie, its bias, and its sum as its multiplier takes it. */
#if defined(MCU_RAW)
#define SECOND_OF(a, b) ((b) - ((a) >> 7))
#define SECOND_BIAS(pair) ((int32_t)((uint32_t)(pair)->bias[1] - (uint32_t)(pair)->bias[0]) >> 8)
#define SECOND_SCALED(sum) ((sum) * 256)
#else
#define SECOND_OF(a, b) (b)
#define SECOND_BIAS(pair) ((pair)->bias[1])
#define SECOND_SCALED(sum) (sum)
#endif

static inline int64_t dot_pair(const int8_t *x, const int8_t *w, int n, const mcu_pair *pair) {
    int32_t a = pair->bias[0], b = SECOND_BIAS(pair);
    for (; n >= 4; n -= 4, x += 4, w += 8) {
        a += x[0] * w[0], b += x[0] * SECOND_OF(w[0], w[1]);
        a += x[2] * w[2], b += x[2] * SECOND_OF(w[2], w[3]);
        a += x[1] * w[4], b += x[1] * SECOND_OF(w[4], w[5]);
        a += x[3] * w[6], b += x[3] * SECOND_OF(w[6], w[7]);
    }
    for (int i = 0; i < n; i++) {
        const int8_t *at = w + (i & 1) * 4 + (i & 2);
        a += x[i] * at[0], b += x[i] * SECOND_OF(at[0], at[1]);
    }
    return (int64_t)SECOND_SCALED(b) * ((int64_t)1 << 32) + (uint32_t)a;
}
#endif

#if !defined(MCU_DSP)
static inline mcu_scale scale_of(const mcu_pair *pair, int i) {
    const mcu_scale s = {pair->mult[i], pair->left[i], pair->right[i] + MCU_LESS};
    return s;
}
#endif

/* The result of channel i of a pair, with the DSP extension not yet clamped. res, out: there. */
static inline void finish(const mcu_conv *op, const mcu_pair *pair, int i, int32_t acc, const int8_t *res,
                          int8_t *out) {
#if defined(MCU_DSP)
#if defined(MCU_TWICE)
    (void)res;
    const int left = pair->left[i], right = pair->right[i];
    const int32_t v = left ? mcu_halves(mcu_high_half(mcu_shl(acc, (uint32_t)left), pair->mult[i]), right)
                           : mcu_requant_twice(acc, pair->mult[i], left, right);
    *out = mcu_ssat8_whole(op->zp_out + v);
#else
    const uint32_t right = pair->right[i];
    const int32_t one = res ? 1 : 2 * op->zp_out + 1;
    int32_t v = mcu_sar(mcu_high(mcu_shl(acc, pair->left[i]), pair->mult[i], mcu_shl(one, right)), right);
    if (res)
        v = ((v >> 1) + (*res - op->res_zp) * op->res_mult + (1 << (op->res_bits - 1))) >> op->res_bits;
    *out = res ? mcu_ssat8_whole(op->zp_out + v) : mcu_ssat8(v);
#endif
#else
    *out = mcu_result(op, scale_of(pair, i), acc, res);
#endif
}

#if defined(MCU_DSP)
/* Where the next four of n positions begin behind those at j: two or three that are left over go with some of these once
 * more, but not where the output has overwritten what that reads. */
static int fours_next(int j, int n, int once) {
    const int left = n - j - 4;
    return once || left < 2 || left > 3 ? j + 4 : n - 4;
}

/* Do n_in bytes of input and n_out bytes of output share any? */
static int shared(const int8_t *in, int n_in, const int8_t *out, int n_out) {
    return out < in + n_in && in < out + n_out;
}
#endif

#if !defined(MCU_DSP)
#include "mcu_twos.h"

/* Two positions. twos: of mcu_twos.h; res: [2][cout] or null, out: [2][cout]. */
static void two_positions(const mcu_conv *op, const int32_t *twos, int n, const int8_t *res, int8_t *out) {
    const mcu_conv o = *op; /* a copy: a store to `out` cannot change it */
    const int quads = (n + 3) / 4;
    const int8_t *w = o.weights;
    const mcu_pair *pair = o.pairs;
    for (int c = 0; c < o.cout; c += 2, pair++) {
        uint32_t a = 0, b = 0, upper_a = 0, upper_b = 0;
        const int32_t *x = twos;
        for (const int32_t *end = x + 4 * quads; x != end; x += 4, w += 8) {
            MCU_TWO_TAPS(a, upper_a, x[0], x[1], w[0], w[2]);
            MCU_TWO_TAPS(b, upper_b, x[0], x[1], SECOND_OF(w[0], w[1]), SECOND_OF(w[2], w[3]));
            MCU_TWO_TAPS(a, upper_a, x[2], x[3], w[4], w[6]);
            MCU_TWO_TAPS(b, upper_b, x[2], x[3], SECOND_OF(w[4], w[5]), SECOND_OF(w[6], w[7]));
        }
        for (int i = 0; i < 2 && c + i < o.cout; i++, a = b, upper_a = upper_b) {
            mcu_sums sums = mcu_apart(a, upper_a, 2 * (uint32_t)quads, i ? SECOND_BIAS(pair) : pair->bias[0]);
            if (i)
                sums.first = SECOND_SCALED(sums.first), sums.second = SECOND_SCALED(sums.second);
            const mcu_scale s = scale_of(pair, i);
            int8_t *to = out + c + i;
            const int8_t *from = res ? res + c + i : 0;
            *to = mcu_result(&o, s, sums.first, from);
            to[o.cout] = mcu_result(&o, s, sums.second, res ? from + o.cout : 0);
        }
    }
}
#endif

/* With the DSP extension both sorts of weights share it. */
#if defined(MCU_DSP) && !defined(MCU_TWICE)
void mcu_position(const mcu_conv *op, const int8_t *x, int n, const int8_t *res, int8_t *out, int8_t *scratch,
                  int64_t (*dot)(const int8_t *, const int8_t *, int, const mcu_pair *));
#define POSITION
#else
#define POSITION static inline
#endif
#if defined(MCU_DSP) && !defined(MCU_TWICE) && !defined(MCU_RAW)
void mcu_clamp_values(int8_t *out, int n, int8_t lo, int8_t hi) {
    const int8x4_t least = (int8x4_t)((uint8_t)lo * 0x01010101u), most = (int8x4_t)((uint8_t)hi * 0x01010101u);
    for (; n >= 4; n -= 4, out += 4) {
        int8x4_t v;
        memcpy(&v, out, 4);
        __ssub8(v, least); /* sets the flags that SEL reads, where v >= least */
        v = (int8x4_t)__sel((uint8x4_t)v, (uint8x4_t)least);
        __ssub8(most, v);
        v = (int8x4_t)__sel((uint8x4_t)v, (uint8x4_t)most);
        memcpy(out, &v, 4);
    }
    for (; n > 0; n--, out++)
        *out = mcu_clamp(*out, lo, hi);
}
#endif

#if !defined(MCU_DSP) || !defined(MCU_RAW)
/* One position from a contiguous window. x: [n], res: [cout] or null, out: [cout], scratch: int16 [n], n in fours; dot:
 * dot_pair of the weights. */
POSITION void mcu_position(const mcu_conv *op, const int8_t *x, int n, const int8_t *res, int8_t *out, int8_t *scratch,
                           int64_t (*dot)(const int8_t *, const int8_t *, int, const mcu_pair *)) {
    const mcu_conv o = *op; /* a copy: a store to `out` cannot change it */
    const int step = 2 * MCU_ROUND4(n);
    const int8_t *w = o.weights;
    const mcu_pair *pair = o.pairs;
#if defined(MCU_DSP)
    widen(x, n, scratch);
    x = scratch, n = (n + 3) / 4;
#else
    (void)scratch;
#endif
    for (int c = 0; c < o.cout; c += 2, w += step, pair++) {
        const int64_t both = dot(x, w, n, pair);
        finish(&o, pair, 0, (int32_t)both, res ? res + c : 0, out + c);
        if (c + 1 < o.cout)
            finish(&o, pair, 1, (int32_t)(both >> 32), res ? res + c + 1 : 0, out + c + 1);
    }
#if defined(MCU_DSP)
    mcu_clamp_all(out, o.cout, o.lo, o.hi);
#endif
}
#endif

static inline void one_position(const mcu_conv *op, const int8_t *x, int n, const int8_t *res, int8_t *out,
                                int8_t *scratch) {
    mcu_position(op, x, n, res, out, scratch, dot_pair);
}

/* n positions in a row. in: [n][cin], res: [n][cout] or null, out: [n][cout]. Where `out` begins within `in` they go from
 * the last to the first, as memmove does, see mcu_conv_pw. */
static void positions(const mcu_conv *op, int n, const int8_t *in, const int8_t *res, int8_t *out, int8_t *scratch) {
    const int back = out > in && out < in + n * op->cin;
    int done = 0;
#if defined(MCU_DSP)
    const int once = res || shared(in, n * op->cin, out, n * op->cout);
    mcu_four t = four_of(op, scratch, op->cin, res);
    for (; in_fours(&t) && done + 4 <= n; done = fours_next(done, n, once)) {
        const int j = back ? n - 4 - done : done;
        expand_four(in + j * op->cin, op->cin, op->cin, scratch);
        four_positions(op, &t, res ? res + j * op->cout : 0, out + j * op->cout);
    }
    mcu_clamp_all(back ? out + (n - done) * op->cout : out, done * op->cout, op->lo, op->hi);
#else
    for (; n >= 4 && done + 2 <= n; done += 2) { /* fewer may have no room for words */
        const int j = back ? n - 2 - done : done;
        pack_twos(in + j * op->cin, op->cin, op->cin, (int32_t *)(void *)scratch);
        two_positions(op, (int32_t *)(void *)scratch, op->cin, res ? res + j * op->cout : 0, out + j * op->cout);
    }
#endif
    for (; done < n; done++) {
        const int j = back ? n - 1 - done : done;
        one_position(op, in + j * op->cin, op->cin, res ? res + j * op->cout : 0, out + j * op->cout, scratch);
    }
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout]. Nothing is padded:
 * 0 <= first <= n_in - n_out. `out` may be `res` where no row is written behind the one it reads: n_dst <= n_res and
 * dst <= res on both axes. Where there is none, `out` may lie over `in`, both whole and of n positions: the lower one
 * begins at least max(c, n * (c - d) + d) bytes before the other, its positions being of c bytes, the other's of d. */
void MCU_ROUNDED(mcu_conv_pw)(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                              const int8_t *res, int8_t *out, int8_t *scratch) {
    const int whole = x->n_in == x->n_out && x->n_dst == x->n_out && (!res || x->n_res == x->n_out);
    const int rows = whole ? 1 : y->n_out, n = whole ? y->n_out * x->n_out : x->n_out;
    for (int i = 0; i < rows; i++)
        positions(op, n, in + ((y->first + i) * x->n_in + x->first) * op->cin,
                  res ? res + ((y->res + i) * x->n_res + x->res) * op->cout : 0,
                  out + ((y->dst + i) * x->n_dst + x->dst) * op->cout, scratch);
}

#if !defined(MCU_RAW) && !defined(MCU_TWICE)
/* The one position of mcu_conv_pw, without the code for four. */
void mcu_conv_pw_one(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                     int8_t *out, int8_t *scratch) {
    one_position(op, in + (y->first * x->n_in + x->first) * op->cin, op->cin,
                 res ? res + (y->res * x->n_res + x->res) * op->cout : 0, out + (y->dst * x->n_dst + x->dst) * op->cout,
                 scratch);
}
#endif

#if defined(MCU_DSP)
/* One position's columns, cin a multiple of 4. */
static void expand_window(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, int top, int left, const int8_t *in,
                          int8_t *columns) {
    const mcu_inside cols = inside(op, x, left);
    const int n = (cols.hi - cols.lo) * op->cin;
    for (int r = top; r < top + op->kh; r++) {
        if (r < 0 || r >= y->n_in) {
            columns = expand_zero(op, op->kw * op->cin, columns);
            continue;
        }
        columns = expand_zero(op, cols.lo * op->cin, columns);
        expand(in + (r * x->n_in + left + cols.lo) * op->cin, n, columns);
        columns = expand_zero(op, (op->kw - cols.hi) * op->cin, columns + n / 4 * FOUR);
    }
}

static inline uint32_t load(const int8_t *p) {
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

/* One position's columns of a 3x3 window of an RGB image, 27 values and a zero, inside the input. row: its first tap. */
static inline void expand_rgb(const int8_t *row, int stride, int8_t *columns) {
    const int8_t *second = row + stride, *third = second + stride;
    const uint32_t words[7] = {load(row),
                               load(row + 4),
                               load(row + 5) >> 24 | load(second) << 8,
                               load(second + 3),
                               load(second + 5) >> 16 | load(third) << 16,
                               load(third + 2),
                               load(third + 5) >> 8};
#pragma GCC unroll 7
    for (int q = 0; q < 7; q++)
        store_quad(mcu_split(words[q]), columns + q * FOUR);
}

/* Four positions' columns, the first one at row i and column j of the output, the others behind it, also in the next
 * row. Where cin is no multiple of 4, windows are gathered behind the columns first. */
static __attribute__((noinline)) void expand_windows(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, int i,
                                                     int j, const int8_t *in, int8_t *columns) {
    const int n = op->kh * op->kw * op->cin, top = y->first + i * op->sh, left = x->first + j * op->sw;
    int8_t *const windows = columns + FOUR / 4 * MCU_ROUND4(n);
    const int stride = x->n_in * op->cin, apart = op->sw * op->cin, fours = op->cin % 4 == 0;
    const int easy =
        top >= 0 && top + op->kh <= y->n_in && left >= 0 && j + 4 <= x->n_out && left + 3 * op->sw + op->kw <= x->n_in;
    const int8_t *row = easy ? in + (top * x->n_in + left) * op->cin : in;
    if (easy && fours) {
        for (int r = 0; r < op->kh; r++, row += stride)
            columns = expand_four(row, apart, op->kw * op->cin, columns);
        return;
    }
    if (easy && op->cin == 3 && op->kh == 3 && op->kw == 3) {
        for (int p = 0; p < 4; p++, row += apart)
            expand_rgb(row, stride, columns + 4 * p);
        return;
    }
    for (int p = 0; p < 4; p++) {
        const int at_y = y->first + i * op->sh, at_x = x->first + j * op->sw;
        if (fours)
            expand_window(op, y, x, at_y, at_x, in, columns + 4 * p);
        else
            gather(op, y, x, at_y, at_x, in, windows + p * MCU_ROUND4(n));
        if (++j == x->n_out)
            i++, j = 0;
    }
    if (!fours) /* what lies behind a window meets weights of zero */
        expand_four(windows, MCU_ROUND4(n), MCU_ROUND4(n), columns);
}
#endif

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout], scratch: one window,
 * [kh][kw][cin], or columns. */
void MCU_ROUNDED(mcu_conv_dense)(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                                 const int8_t *res, int8_t *out, int8_t *scratch) {
    const int taps = op->kh * op->kw * op->cin, whole = x->n_dst == x->n_out && (!res || x->n_res == x->n_out);
    const int rows = whole ? 1 : y->n_out, n = whole ? y->n_out * x->n_out : x->n_out;
#if defined(MCU_DSP)
    mcu_four t = four_of(op, scratch, taps, res);
    const int once = res || shared(in, y->n_in * x->n_in * op->cin, out, y->n_dst * x->n_dst * op->cout);
#endif
    for (int row = 0; row < rows; row++) {
        const int8_t *sum = res ? res + ((y->res + row) * x->n_res + x->res) * op->cout : 0;
        int8_t *dst = out + ((y->dst + row) * x->n_dst + x->dst) * op->cout;
        int m = 0;
#if defined(MCU_DSP)
        for (; in_fours(&t) && m + 4 <= n; m = fours_next(m, n, once)) {
            expand_windows(op, y, x, row + m / x->n_out, m % x->n_out, in, scratch);
            four_positions(op, &t, sum ? sum + m * op->cout : 0, dst + m * op->cout);
        }
        mcu_clamp_all(dst, m * op->cout, op->lo, op->hi);
#else
        for (int8_t *const windows = scratch + 4 * MCU_ROUND4(taps); m + 2 <= n; m += 2) {
            for (int p = 0; p < 2; p++)
                gather(op, y, x, y->first + (row + (m + p) / x->n_out) * op->sh, x->first + (m + p) % x->n_out * op->sw,
                       in, windows + p * taps);
            pack_twos(windows, taps, taps, (int32_t *)(void *)scratch);
            two_positions(op, (int32_t *)(void *)scratch, taps, sum ? sum + m * op->cout : 0, dst + m * op->cout);
        }
#endif
        for (; m < n; m++) {
            gather(op, y, x, y->first + (row + m / x->n_out) * op->sh, x->first + m % x->n_out * op->sw, in, scratch);
            one_position(op, scratch, taps, sum ? sum + m * op->cout : 0, dst + m * op->cout,
                         scratch + MCU_ROUND4(taps));
        }
    }
}

#if !defined(MCU_RAW)
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

/* Group g as a convolution of its own. */
static mcu_conv group_of(const mcu_conv *op, int g, int n) {
    mcu_conv part = *op;
    part.cout = (int16_t)(op->cout / op->groups);
    const int pairs = (part.cout + 1) / 2;
    part.pairs += g * pairs, part.weights += g * pairs * 2 * MCU_ROUND4(n);
    return part;
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout],
 * scratch: one window of one group, [kh][kw][cin / groups], and its values as int16. */
void MCU_ROUNDED(mcu_conv_group)(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                                 const int8_t *res, int8_t *out, int8_t *scratch) {
    const int cin = op->cin / op->groups, cout = op->cout / op->groups, n = op->kh * op->kw * cin;
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const int8_t *sum = res ? res + ((y->res + i) * x->n_res + x->res + j) * op->cout : res;
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->cout;
            for (int g = 0; g < op->groups; g++) {
                const mcu_conv part = group_of(op, g, n);
                gather_channels(op, y, x, y->first + i * op->sh, x->first + j * op->sw, g * cin, cin, in, scratch);
                one_position(&part, scratch, n, sum ? sum + g * cout : sum, dst + g * cout, scratch + MCU_ROUND4(n));
            }
        }
}
#endif
