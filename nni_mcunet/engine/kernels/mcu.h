/* int8 kernels for patch-based inference. NHWC, batch 1. No malloc, no stdio, no float.
 *
 * Every kernel has one signature. `y` and `x` say, for the patch at hand, which rows and columns it reads and writes;
 * a layer that is not patched is the case of one patch. A border patch passes its padding as a negative `first`, an
 * inner patch has a halo instead and `first` >= 0: there is no patch kernel.
 */
#ifndef MCU_H
#define MCU_H
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

/* One axis (rows or columns) of one operator in one patch; all in positions. */
typedef struct {
    int16_t n_in;  /* positions in the input buffer */
    int16_t first; /* where the first window starts in it; negative: that many taps are padding */
    int16_t n_out; /* positions to compute */
    int16_t n_dst; /* positions in the destination buffer */
    int16_t dst;   /* first position written there */
    int16_t n_res; /* positions in the residual's buffer (0: no residual) */
    int16_t res;   /* first position read there */
} mcu_axis;

/* Two output channels. Bias has -zp_in * sum(weights) folded in; requantisation: see mcu_requant. */
typedef struct {
    int32_t bias[2], mult[2];
    uint8_t right[2]; /* less one; of a convolution that rounds twice itself */
    uint8_t left[2];
} mcu_pair;

/* A convolution, or a fully connected layer as a 1x1 one. A padded tap counts as zp_in. Each group (all channels
 * of a depth-wise one) is packed by itself: pairs of channels, an odd last one with zeros, and of each pair taps (kh, kw, cin) in
 * fours, zeros at the end. Taps 0..3 of the channels a and b lie as a0 b0 a2 b2 a1 b1 a3 b3. */
typedef struct {
    int16_t cin, cout, groups;
    uint8_t kh, kw, sh, sw;
    int8_t zp_in, zp_out, lo, hi; /* zero points; clamp of the result (activation) */
    int8_t res_zp;                /* residual: zero point, */
    uint8_t res_bits;             /* fraction bits of the sum, */
    int32_t res_mult;             /* scale of the residual in 2^-res_bits output steps */
    const int8_t *weights;        /* packed; of a depth-wise one: [cout][kh][kw] */
    const mcu_pair *pairs;
} mcu_conv;

/* A multiplier of mcu_requant. */
typedef struct {
    int32_t mult;
    uint8_t left, right;
} mcu_factor;

/* Pools, padding and nearest upsampling. */
typedef struct {
    int16_t c;
    uint8_t kh, kw, sh, sw;
    int8_t zp_in, zp_out;
    mcu_factor mean;          /* means: of the sum over a whole window, */
    const mcu_factor *border; /* of a window with m taps of padding: [m - 1] */
} mcu_pool;

/* Copies: c channels of the input, cout of the output, every sh-th row and sw-th column, or blocks of sh x sw. */
typedef struct {
    int16_t c, cout;
    int16_t from; /* take: the first channel, where there is no table */
    uint8_t sh, sw;
    int8_t zp;               /* zero */
    const int16_t *channels; /* take: [cout], the channel of the input, -1 for zeros; null: from, from + 1, ... */
} mcu_move;

/* The sum of two maps, each times its scale in 2^-bits output steps; bias has their zero points and rounds. */
typedef struct {
    int32_t mult_a, mult_b, bias;
    int16_t c;
    uint8_t bits;
    int8_t zp_out, lo, hi;
} mcu_sum;

/* The sum of two maps, rounded as TensorFlow Lite does it: each input to 20 fraction bits, then the sum. */
typedef struct {
    int32_t mult_a, mult_b, mult;
    int16_t c;
    uint8_t right_a, right_b, right;
    int8_t zp_a, zp_b, zp_out, lo, hi;
} mcu_sum_twice;

/* The product of two maps, or of a map and one factor a channel. */
typedef struct {
    mcu_factor factor;
    int16_t c;
    int8_t zp_a, zp_b, zp_out;
} mcu_product;

/* Attention of heads, each of `depth` channels of the second map. */
typedef struct {
    mcu_factor factor;
    int16_t heads, depth;
    int8_t zp_a, zp_b, zp_out;
} mcu_attention;

/* Values looked up: c channels of the input become channels at..at + c - 1 of cout. */
typedef struct {
    const int8_t *table; /* [256] by value + 128, of mcu_act_channels [c][256]; null: values are copied */
    int16_t c, cout, at;
} mcu_table;

/* A softmax. */
typedef struct {
    const uint32_t *table; /* [256]: exp of minus the difference to the maximum, in a fixed point whose sums fit */
    int16_t c;
} mcu_exp;

/* The upper half of a product by a positive multiplier; of halves where no instruction gives it (Cortex-M0+ and M23). */
static inline int32_t mcu_upper(int32_t v, int32_t mult) {
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1
    const uint32_t low = (uint32_t)v & 0xffff, mult_low = (uint32_t)mult & 0xffff;
    const int32_t high = v >> 16, mult_high = mult >> 16;
    const int32_t a = high * (int32_t)mult_low + (int32_t)(low * mult_low >> 16); /* each sum fits in 32 bits */
    const int32_t b = (int32_t)low * mult_high + (a & 0xffff);
    return high * mult_high + (a >> 16) + (b >> 16);
#else
    return (int32_t)(((int64_t)v * mult) >> 32);
#endif
}

/* The one rounding rule: floor(acc * 2^left * mult / 2^(32 + right) + 1/2). The generator proves that acc << left fits
 * in 32 bits and that right >= 1; SMMLA and ASR on the DSP extension. */
static inline int32_t mcu_requant(int32_t acc, int32_t mult, int left, int right) {
    const int32_t high = mcu_upper(acc * (int32_t)(1u << left), mult);
    return ((high >> (right - 1)) + 1) >> 1;
}

/* TensorFlow Lite's rule, for models that come from there: high = floor(acc * 2^left * mult / 2^32 + 1/2), and that over
 * 2^right, rounded half away from zero. The generator proves that acc << left fits in 31 bits; left 0 stands for a 1
 * of which that is not so. */
static inline int32_t mcu_halves(int32_t high, int right) {
    return right ? (((high + (high >> 31)) >> (right - 1)) + 1) >> 1 : high;
}

static inline int32_t mcu_requant_twice(int32_t acc, int32_t mult, int left, int right) {
    const int64_t wide = left ? acc * (int32_t)(1u << left) : (int64_t)acc * 2;
    return mcu_halves((int32_t)((wide * mult + ((int64_t)1 << 31)) >> 32), right);
}

/* A file that is compiled once more with MCU_TWICE has the kernels that round twice, with MCU_RAW those whose weights lie
 * as mcu_conv_pw_raw says. */
#if defined(MCU_TWICE)
#define MCU_ROUNDED(name) name##_twice
#define MCU_LESS 0 /* what a right shift is less by in mcu_pair */
#elif defined(MCU_RAW)
#define MCU_ROUNDED(name) name##_raw
#define mcu_requant_raw mcu_requant
#define MCU_LESS 1
#else
#define MCU_ROUNDED(name) name
#define MCU_LESS 1
#endif

static inline int mcu_min(int a, int b) { return a < b ? a : b; }
static inline int mcu_max(int a, int b) { return a > b ? a : b; }
static inline int8_t mcu_clamp(int32_t v, int32_t lo, int32_t hi) { return (int8_t)(v < lo ? lo : v > hi ? hi : v); }

/* Requantisation of one output channel. */
typedef struct {
    int32_t mult;
    int left, right;
} mcu_scale;

static inline mcu_scale mcu_scale_of(const mcu_conv *op, int c) {
    const mcu_pair *p = op->pairs + (c >> 1);
    const mcu_scale s = {p->mult[c & 1], p->left[c & 1], p->right[c & 1] + MCU_LESS};
    return s;
}

static inline int32_t mcu_bias(const mcu_conv *op, int c) { return op->pairs[c >> 1].bias[c & 1]; }

/* The int8 result of an accumulator. res: the residual's value there, or null. With a residual, F = res_bits >= 1 and
 * mult scaled by 2^F:
 *   out = clamp(zp_out + ((requant(acc) + (residual - res_zp) * res_mult + 2^(F-1)) >> F)) */
static inline int8_t mcu_result(const mcu_conv *op, mcu_scale s, int32_t acc, const int8_t *res) {
    int32_t v = MCU_ROUNDED(mcu_requant)(acc, s.mult, s.left, s.right);
    if (res) /* never of a convolution that rounds twice */
        v = (v + (*res - op->res_zp) * op->res_mult + (int32_t)(1u << (op->res_bits - 1))) >> op->res_bits;
    return mcu_clamp(op->zp_out + v, op->lo, op->hi);
}

/* Taps before position 0 or behind n_in - 1 count as zp_in. `scratch` holds MCU_*_SCRATCH bytes.
 * The point-wise one has no padding and may write onto the residual's buffer. */
void mcu_conv_pw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch);
void mcu_conv_dense(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                    int8_t *out, int8_t *scratch);
/* Any number of groups: cout / groups outputs see cin / groups inputs each. */
void mcu_conv_group(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                    int8_t *out, int8_t *scratch);
/* Depth-wise; may run in place: out == in, n_dst == n_out, dst == 0, x.n_out <= x.n_in, y.first > -kh, no residual. An
 * output then lies at or before the last input read, and only on its own channel. */
void mcu_conv_dw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch);
/* The same for the DSP extension, which multiplies by both weights of a pair as they lie: two channels a and b as the int16
 * 256 * b + a, so that a product sum is 256 times that of b plus that of a. The bias of b is 256 * b + a, too, its right
 * shift counts the 8 bits, and it has no left one. The generator proves that 256 times each sum of b fits in 32 bits. */
void mcu_conv_pw_raw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                     int8_t *out, int8_t *scratch);
void mcu_conv_dense_raw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                        int8_t *out, int8_t *scratch);
/* The same for cores with vectors, of weights in rows: of four channels together, the last one or two of all beside each
 * other, in number as pairs have them. First come the first (taps - 1) % 16 + 1 taps of each, with zeros to a multiple of 4,
 * then the others: 16 of each channel, the next 16 of each, and so on. */
void mcu_conv_pw_rows(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                      int8_t *out, int8_t *scratch);
void mcu_conv_dense_rows(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                         int8_t *out, int8_t *scratch);
/* Each computes what the one of the shorter name does, and lets a linker leave the rest of that out: of one position; and
 * without residual, for square windows of 3, 5 or 7 at steps of 1 or 2 and shifts to the left of at most 8. */
void mcu_conv_pw_one(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                     int8_t *out, int8_t *scratch);
void mcu_conv_dw_fast(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                      int8_t *out, int8_t *scratch);
/* The same, rounded twice, without residual. */
void mcu_conv_pw_twice(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                       int8_t *out, int8_t *scratch);
void mcu_conv_dense_twice(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                          int8_t *out, int8_t *scratch);
/* Of weights in rows, and right shifts of 1 and more. */
void mcu_conv_pw_twice_rows(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                            const int8_t *res, int8_t *out, int8_t *scratch);
void mcu_conv_dense_twice_rows(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                               const int8_t *res, int8_t *out, int8_t *scratch);
void mcu_conv_group_twice(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                          int8_t *out, int8_t *scratch);
void mcu_conv_dw_twice(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                       int8_t *out, int8_t *scratch);
/* Of shifts to the left of 1 to 8, to the right of 1 to 21. */
void mcu_conv_dw_twice_fast(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                            const int8_t *res, int8_t *out, int8_t *scratch);
/* The maximum of the taps inside the input; in and out have one scale, as they have for padding and upsampling. */
void mcu_maxpool(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* Mean of the taps inside the input, of which there is one at least: zp_out + requant(sum of (in - zp_in)), clamped. */
void mcu_avgpool(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* The same of the whole input. */
void mcu_gap(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* The same as TensorFlow Lite: the mean of the values as they are, rounded half away from zero; of the whole input as
 * above, rounded twice. */
void mcu_avgpool_twice(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
void mcu_gap_twice(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* A copy; what lies outside the input is zp_in. */
void mcu_pad(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* Nearest: output position i of the patch copies input position (i + first) / sh (sw); first is never negative. */
void mcu_upsample(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);

/* Channels of every sh-th row and sw-th column from first on, which is never negative. */
void mcu_take(const mcu_move *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* A block of sh x sw positions becomes channels, those of its first position first. */
void mcu_space_to_depth(const mcu_move *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* The inverse: output position i of the patch is part (i + first) % sh (sw) of input position (i + first) / sh (sw). */
void mcu_depth_to_space(const mcu_move *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);

/* Element by element. The second input, `res`, is read at y.res, x.res; `out` may lie on any input of its shape, where
 * dst == 0 and n_dst == n_out: it is written at or before the position read. */
/* out = clamp(zp_out + ((in * mult_a + res * mult_b + bias) >> bits)) */
void mcu_add(const mcu_sum *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res, int8_t *out);
/* out = clamp(zp_out + requant((in - zp_a) * (res - zp_b))); an axis on which `res` has one position repeats it. */
void mcu_mul(const mcu_product *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
             int8_t *out);
/* The same, rounded as TensorFlow Lite does. */
void mcu_add_twice(const mcu_sum_twice *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                   int8_t *out);
void mcu_mul_twice(const mcu_product *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                   int8_t *out);
/* Of whole maps: zp_out + requant(sum of (in - zp_a) * (other - zp_b)), clamped. Scores are summed over a head's channels,
 * a row for each position of `in`, a column for each head, a channel for each position of `key`. */
void mcu_attention_scores(const mcu_attention *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                          const int8_t *key, int8_t *out);
/* The sum over the positions of `value`, of each times what `in` has for it: the inverse layout. */
void mcu_attention_sum(const mcu_attention *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                       const int8_t *value, int8_t *out);
/* out = table[in] */
void mcu_act(const mcu_table *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* out = table[channel][in] */
void mcu_act_channels(const mcu_table *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* exp(in) / sum of exp(in) over the channels, in steps of 1/256, rounded, zero being -128. */
void mcu_softmax(const mcu_exp *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* The same as TensorFlow Lite, with exp in 31 fraction bits and its reciprocal of the sum. */
void mcu_softmax_twice(const mcu_exp *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* One input of a concatenation, into its channels of the output; not in place. */
void mcu_concat(const mcu_table *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);

/* One axis of a tile of n positions, where the halo is cached: the first `old` come from a cache, the last `keep` go
 * into one; `at` (of columns): where the others begin in the row cache. */
typedef struct {
    int16_t n, old, keep, at;
} mcu_edge;

/* The cached halo: rows (columns) that patches share are computed once. Called when the new positions of a tile stand:
 * its first rows (columns) are filled from the cache, then the cache from its last ones, for the patch below (to the
 * right). The rows first: they leave out the old columns, which the cache of columns has in full height. */
void mcu_rows(int c, int across, const mcu_edge *y, const mcu_edge *x, int8_t *tile, int8_t *cache);
void mcu_cols(int c, const mcu_edge *y, const mcu_edge *x, int8_t *tile, int8_t *cache);

/* Bytes of scratch, stated once here and checked against the plan by static assertions in the generated code. cin: of a
 * group. */
#define MCU_ROUND4(n) (((n) + 3) / 4 * 4)
/* The DSP versions expand four positions to int16, from four windows where cin is no multiple of 4; the point-wise one,
 * where an input has fewer than four positions, one of them. positions: outputs of the largest patch. */
#define MCU_CONV_PW_SCRATCH(cin, kh, kw, positions) (((positions) < 4 ? 2 : 8) * MCU_ROUND4(cin))
#define MCU_CONV_DENSE_SCRATCH(cin, kh, kw, cols) (((cin) % 4 ? 12 : 8) * MCU_ROUND4((kh) * (kw) * (cin)))
#define MCU_CONV_GROUP_SCRATCH(cin, kh, kw, cols) (3 * MCU_ROUND4((kh) * (kw) * (cin)))
/* cols: input columns of one row's windows, (n_out-1)*sw + kw. The DSP version has rows of two channels as int16, for an
 * even number of outputs: kh + 2 of them or, where they are short, as many as fit in 768 bytes. */
#define MCU_DW_LINE(cols) (4 * ((cols) + 3))
#define MCU_DW_ROWS(kh, cols) ((kh) + 2 > 768 / MCU_DW_LINE(cols) ? (kh) + 2 : 768 / MCU_DW_LINE(cols))
#define MCU_CONV_DW_SCRATCH(cin, kh, kw, cols) \
    (((kh) + 2) * MCU_DW_LINE(cols) > 768 ? ((kh) + 2) * MCU_DW_LINE(cols) : 768) /* fewer cols may fill more of it */

/* Bytes by which an output must begin before the input that its kernel is the last to read, so that no byte is written
 * that is still to be read; checked in the same way. in, out: bytes of a position, or of a row, of either map. A 1x1
 * convolution of n positions goes forwards or backwards, so its output may also begin behind the input by what the input
 * would have to begin before it: BEFORE_PW(in, out, n) bytes. The others go forwards, by rows; s and pad are those of
 * their rows. The first rows, and the last, are the ones that need most. */
#define MCU_MAX(a, b) ((a) > (b) ? (a) : (b))
#define MCU_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MCU_BEFORE_PW(out, in, n) MCU_MAX(out, (n) * ((out) - (in)) + (in))
#define MCU_BEFORE_ROW(row, first, in, out) (((row) + 1) * (out)-MCU_MAX(first, 0) * (in))
#define MCU_BEFORE_WINDOW(row, in, out, s, pad) MCU_BEFORE_ROW(row, (row) * (s) - (pad), in, out)
#define MCU_BEFORE(rows, in, out, s, pad) \
    MCU_MAX(MCU_MAX(MCU_BEFORE_WINDOW(MCU_MIN((rows)-1, MCU_MAX(pad, 0) / (s)), in, out, s, pad), \
                    MCU_BEFORE_WINDOW(MCU_MIN((rows)-1, MCU_MAX(pad, 0) / (s) + 1), in, out, s, pad)), \
            MCU_BEFORE_WINDOW((rows)-1, in, out, s, pad))
/* An upsampling, s rows of whose output come from one of its input. */
#define MCU_BEFORE_COPY(row, in, out, s) MCU_BEFORE_ROW(row, (row) / (s), in, out)
#define MCU_BEFORE_UPSAMPLE(rows, in, out, s) \
    MCU_MAX(MCU_MAX(MCU_BEFORE_COPY(MCU_MIN(s, rows) - 1, in, out, s), MCU_BEFORE_COPY((rows)-1, in, out, s)), \
            MCU_BEFORE_COPY(MCU_MAX((rows) / (s) * (s)-1, 0), in, out, s))

#if defined(__cplusplus)
}
#endif

#endif
