/* int8 kernels for patch-based inference. NHWC, batch 1. No malloc, no stdio, no float.
 *
 * Every kernel has one signature. `y` and `x` say, for the patch at hand, which rows and columns it reads and writes;
 * a layer that is not patched is the case of one patch. A border patch passes its padding as a negative `first`, an
 * inner patch has a halo instead and `first` >= 0: there is no patch kernel.
 */
#ifndef MCU_H
#define MCU_H
#include <stdint.h>

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

/* A convolution, or a fully connected layer as a 1x1 one. Bias has -zp_in * sum(weights) folded in, so a padded tap
 * counts as zp_in. Requantisation: see mcu_requant. */
typedef struct {
    int16_t cin, cout;
    uint8_t kh, kw, sh, sw;
    int8_t zp_in, zp_out, lo, hi; /* zero points; clamp of the result (activation) */
    int8_t res_zp;                /* residual: zero point, */
    uint8_t res_bits;             /* fraction bits of the sum, */
    int32_t res_mult;             /* scale of the residual in 2^-res_bits output steps */
    const int8_t *weights;        /* dense, 1x1: [cout][kh][kw][cin]; depth-wise: [c][kh][kw] */
    const int32_t *bias;          /* [cout] */
    const int32_t *mult;          /* [cout] */
    const uint8_t *left, *right;  /* [cout] */
} mcu_conv;

/* Pools and nearest upsampling. */
typedef struct {
    int16_t c;
    uint8_t kh, kw, sh, sw;
    int8_t zp_in, zp_out, lo, hi;
    int32_t mult; /* mcu_gap only: requantisation of the sum */
    uint8_t left, right;
} mcu_pool;

/* The one rounding rule: floor(acc * 2^left * mult / 2^(32 + right) + 1/2). The generator proves that acc << left fits
 * in 32 bits and that right >= 1; SMMLA and ASR on the DSP extension. */
static inline int32_t mcu_requant(int32_t acc, int32_t mult, int left, int right) {
    int32_t high = (int32_t)(((int64_t)(acc * (int32_t)(1u << left)) * mult) >> 32);
    return ((high >> (right - 1)) + 1) >> 1;
}

static inline int mcu_min(int a, int b) { return a < b ? a : b; }
static inline int mcu_max(int a, int b) { return a > b ? a : b; }
static inline int8_t mcu_clamp(int32_t v, int32_t lo, int32_t hi) { return (int8_t)(v < lo ? lo : v > hi ? hi : v); }

/* Requantisation of one output channel. */
typedef struct {
    int32_t mult;
    int left, right;
} mcu_scale;

static inline mcu_scale mcu_scale_of(const mcu_conv *op, int c) {
    mcu_scale s = {op->mult[c], op->left[c], op->right[c]};
    return s;
}

/* The int8 result of an accumulator. res: the residual's value there, or null. With a residual, F = res_bits >= 1 and
 * mult scaled by 2^F:
 *   out = clamp(zp_out + ((requant(acc) + (residual - res_zp) * res_mult + 2^(F-1)) >> F)) */
static inline int8_t mcu_result(const mcu_conv *op, mcu_scale s, int32_t acc, const int8_t *res) {
    int32_t v = mcu_requant(acc, s.mult, s.left, s.right);
    if (res)
        v = (v + (*res - op->res_zp) * op->res_mult + (int32_t)(1u << (op->res_bits - 1))) >> op->res_bits;
    return mcu_clamp(op->zp_out + v, op->lo, op->hi);
}

/* Taps before position 0 or behind n_in - 1 count as zp_in. `scratch` holds MCU_*_SCRATCH bytes.
 * The point-wise one has no padding and may write onto the residual's buffer. */
void mcu_conv_pw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch);
void mcu_conv_dense(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                    int8_t *out, int8_t *scratch);
/* Depth-wise; may run in place: out == in, n_dst == n_out, dst == 0, x.n_out <= x.n_in, y.first > -kh, no residual. An
 * output then lies at or before the last input read, and only on its own channel. */
void mcu_conv_dw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch);
/* zp_in is the value of padded taps; in and out have one scale. */
void mcu_maxpool(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* Mean of the whole input: zp_out + requant(sum of (in - zp_in)), clamped. */
void mcu_gap(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);
/* Nearest: output position i of the patch copies input position (i + first) / sh (sw); first is never negative. */
void mcu_upsample(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out);

/* Bytes of scratch, stated once here and checked against the plan by static assertions in the generated code. */
#define MCU_CONV_PW_SCRATCH(cin, kh, kw, cols) 0
#define MCU_CONV_DENSE_SCRATCH(cin, kh, kw, cols) ((kh) * (kw) * (cin))
/* cols: input columns of one row's windows, (n_out-1)*sw + kw; the DSP version reads up to 3 bytes past the ring. */
#define MCU_CONV_DW_SCRATCH(cin, kh, kw, cols) ((kh) * (cols) + 3)

#endif
