/* Sixteen int8 values at once: the M-profile vector extension (Helium) of the Cortex-M55 and M85. */
#ifndef MCU_MVE_H
#define MCU_MVE_H
#include "mcu_dsp.h"
#if defined(MCU_DSP) && defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define MCU_MVE 1
#include <arm_mve.h>

#if defined(__cplusplus)
extern "C" {
#endif

/* A memcpy of n >= 0 bytes. */
static inline void mcu_copy(int8_t *to, const int8_t *from, int n) {
    __asm__ volatile(
        "wlstp.8 lr, %[n], 2f\n 1: vldrb.u8 q0, [%[from]], #16\n vstrb.8 q0, [%[to]], #16\n letp lr, 1b\n 2:"
        : [to] "+r"(to), [from] "+r"(from)
        : [n] "r"(n)
        : "lr", "q0", "memory");
}

/* Sums in q times the multipliers, all but the shifts; of a convolution that rounds twice with right ones of 1 and more,
 * and left ones less the one that VQRDMULH has. */
#if defined(MCU_TWICE)
#define MCU_SCALE(q, mult, other)                                                                                       \
    "vqrdmulh.s32 " q ", " q ", " mult "\n vshr.s32 " other ", " q ", #31\n vadd.i32 " q ", " q ", " other "\n"
#else
#define MCU_SCALE(q, mult, other) "vmulh.s32 " q ", " q ", " mult "\n"
#endif

/* Requantisation of four channels, a lane each: of mcu_pair, the right shifts as VRSHL takes them. */
typedef struct {
    int32x4_t bias, mult, right, left;
} mcu_lanes;

/* words, bytes: where the int32 and the bytes of each lane's channel lie behind those of channel i of the first pair;
 * some: the lanes that have one. */
static inline mcu_lanes mcu_lanes_at(const mcu_pair *pairs, int i, uint32x4_t words, uint32x4_t bytes,
                                     mve_pred16_t some) {
    const int32x4_t right = (int32x4_t)vldrbq_gather_offset_z_u32(pairs->right + i, bytes, some);
    const int32x4_t left = (int32x4_t)vldrbq_gather_offset_z_u32(pairs->left + i, bytes, some);
    const mcu_lanes lanes = {vldrwq_gather_offset_z_s32(pairs->bias + i, words, some),
                             vldrwq_gather_offset_z_s32(pairs->mult + i, words, some),
                             vsubq_s32(vdupq_n_s32(-MCU_LESS), right),
                             MCU_LESS ? left : vmaxq_s32(vsubq_n_s32(left, 1), vdupq_n_s32(0))};
    return lanes;
}

/* Of both channels of two pairs. */
static inline mcu_lanes mcu_lanes_of(const mcu_pair *pairs) {
    const uint32x4_t words = {0, 4, sizeof(mcu_pair), sizeof(mcu_pair) + 4};
    const uint32x4_t bytes = {0, 1, sizeof(mcu_pair), sizeof(mcu_pair) + 1};
    return mcu_lanes_at(pairs, 0, words, bytes, vctp32q(4));
}

/* Of channel i of each of four pairs, or of the first `count`. */
static inline mcu_lanes mcu_lanes_every(const mcu_pair *pairs, int i, uint32_t count) {
    const uint32x4_t at = {0, sizeof(mcu_pair), 2 * sizeof(mcu_pair), 3 * sizeof(mcu_pair)};
    return mcu_lanes_at(pairs, i, at, at, vctp32q(count));
}

#if defined(__cplusplus)
}
#endif

#endif
#endif
