/* int8 values as pairs of int16: the DSP extension's SXTB16 and SMLAD; requantisation by SMMLA and SSAT. */
#ifndef MCU_DSP_H
#define MCU_DSP_H
#include "mcu.h"
/* The assembly needs nearly all registers, of which unoptimised code keeps too many. MCU_NO_ASSEMBLY: the same bytes from
 * plain C, for firmware whose interrupts read a register of their own (-ffixed-r9, -msingle-pic-base). It loads words
 * from any address, which -mno-unaligned-access rules out. */
#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_UNALIGNED) && defined(__OPTIMIZE__) && !defined(MCU_NO_ASSEMBLY)
#define MCU_DSP 1
#include <arm_acle.h>
#include <string.h>

#if defined(__cplusplus)
extern "C" {
#endif

/* A function that is one block of assembly, which saves what it uses: it compiles whatever the compiler keeps for itself
 * (a frame pointer in r7, a base of data in r9). Nothing may be put before that block, by -fstack-protector-all, -pg or
 * --coverage. noipa: callers of it may not look into it; clang never does. */
#if defined(__clang__)
#define MCU_ALONE noinline, no_stack_protector
#elif __GNUC__ >= 11
#define MCU_ALONE noipa, no_stack_protector
#else
#define MCU_ALONE noipa, optimize("no-stack-protector")
#endif
#define MCU_NAKED __attribute__((naked, MCU_ALONE, no_instrument_function, no_profile_instrument_function))
#define MCU_UNUSED __attribute__((unused)) /* arguments that only the assembly reads */

typedef struct {
    int16x2_t even, odd; /* elements 0 and 2; elements 1 and 3 */
} mcu_quad;

static inline mcu_quad mcu_split(uint32_t word) {
    mcu_quad q;
    __asm__("sxtb16 %0, %1" : "=r"(q.even) : "r"(word));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(q.odd) : "r"(word));
    return q;
}

static inline mcu_quad mcu_load4(const int8_t *p) {
    uint32_t word;
    memcpy(&word, p, 4); /* one LDR, aligned or not */
    return mcu_split(word);
}

/* The first n < 4 of them, zeros behind. */
static inline mcu_quad mcu_load_rest(const int8_t *p, int n) {
    uint32_t word = 0;
    for (int i = 0; i < n; i++)
        word |= (uint32_t)(uint8_t)p[i] << 8 * i;
    return mcu_split(word);
}

/* The lower halves of two values. */
static inline uint32_t mcu_pair16(int32_t low, int32_t high) {
    uint32_t both;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(both) : "r"(low), "r"(high));
    return both;
}

/* Requantisation by shifts of a register, of which the instructions read only the lowest byte. With r = right - 1:
 *   clamp(zp_out + requant(acc)) = SSAT((hi(acc * mult) + ((2 * zp_out + 1) << r)) >> r >> 1)
 * The generator keeps r <= 21, so that the sum fits in 32 bits. */
static inline int32_t mcu_shl(int32_t v, uint32_t by) {
    __asm__("lsl %0, %1, %2" : "=r"(v) : "r"(v), "r"(by));
    return v;
}

static inline int32_t mcu_sar(int32_t v, uint32_t by) {
    __asm__("asr %0, %1, %2" : "=r"(v) : "r"(v), "r"(by));
    return v;
}

static inline int32_t mcu_high(int32_t acc, int32_t mult, int32_t plus) {
    __asm__("smmla %0, %1, %2, %3" : "=r"(acc) : "r"(acc), "r"(mult), "r"(plus));
    return acc;
}

/* acc * mult / 2^32, rounded half up. */
static inline int32_t mcu_high_half(int32_t acc, int32_t mult) {
    __asm__("smmulr %0, %1, %2" : "=r"(acc) : "r"(acc), "r"(mult));
    return acc;
}

static inline int8_t mcu_ssat8_whole(int32_t v) {
    __asm__("ssat %0, #8, %1" : "=r"(v) : "r"(v) : "cc");
    return (int8_t)v;
}

/* Of v / 2. */
static inline int8_t mcu_ssat8(int32_t v) {
    __asm__("ssat %0, #8, %1, asr #1" : "=r"(v) : "r"(v) : "cc");
    return (int8_t)v;
}

/* Can the assembly that rounds twice take these channels? Shifts to the left of 1 to `most`; and to the right by 1 to 21,
 * where (2 * zp_out + 1) << right fits in 30 bits: one by 0 would round once. */
static inline int mcu_is_plain_twice(const mcu_conv *op, int most) {
    for (int c = 0; c < op->cout; c++) {
        const mcu_pair *p = op->pairs + (c >> 1);
        if (p->left[c & 1] < 1 || p->left[c & 1] > most || p->right[c & 1] < 1 || p->right[c & 1] > 21)
            return 0;
    }
    return 1;
}

/* Clamps n results that saturated at the ends of int8 to lo..hi. In mcu_conv.c, once for all kernels. */
void mcu_clamp_values(int8_t *out, int n, int8_t lo, int8_t hi);

static inline void mcu_clamp_all(int8_t *out, int n, int8_t lo, int8_t hi) {
    if (lo != -128 || hi != 127)
        mcu_clamp_values(out, n, lo, hi);
}

#if defined(__cplusplus)
}
#endif

#endif
#endif
