/* Four int8 values at a time as two pairs of int16: the DSP extension's SXTB16 and SMLAD. */
#ifndef MCU_DSP_H
#define MCU_DSP_H
#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    int16x2_t even, odd; /* elements 0 and 2; elements 1 and 3 */
} mcu_quad;

static inline mcu_quad mcu_load4(const int8_t *p) {
    uint32_t word;
    mcu_quad q;
    memcpy(&word, p, 4); /* one LDR, aligned or not */
    __asm__("sxtb16 %0, %1" : "=r"(q.even) : "r"(word));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(q.odd) : "r"(word));
    return q;
}

static inline int32_t mcu_mac4(mcu_quad a, mcu_quad b, int32_t acc) {
    return __smlad(a.odd, b.odd, __smlad(a.even, b.even, acc));
}

#endif
#endif
