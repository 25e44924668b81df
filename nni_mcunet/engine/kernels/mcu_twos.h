/* Two positions of a 1x1 or dense convolution at once, in plain C for cores that multiply one pair of values a time: a
 * word has the values of both, so that one multiplication by a weight does two. */
#ifndef MCU_TWOS_H
#define MCU_TWOS_H
#include "mcu.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* Words 2^16 * second + first, in the order of the packed weights: taps 0, 2, 1, 3 of each quad. Words behind the
 * last tap meet weights of zero. x: [n] of the first position, the second's are `apart` bytes on; twos: int32 [n]. */
static void pack_twos(const int8_t *x, int apart, int n, int32_t *twos) {
    const int8_t *second = x + apart;
    for (; n >= 4; n -= 4, x += 4, second += 4, twos += 4) {
        twos[0] = second[0] * (1 << 16) + x[0];
        twos[1] = second[2] * (1 << 16) + x[2];
        twos[2] = second[1] * (1 << 16) + x[1];
        twos[3] = second[3] * (1 << 16) + x[3];
    }
    for (int i = 0; i < n; i++)
        twos[(i & 1) * 2 + (i >> 1)] = second[i] * (1 << 16) + x[i];
}

/* The products of two taps fit in the halves of a word, their sums in -32512..32768, once this is added to them: the
 * lower one is then 255..65535, the upper one -32640..32640. */
#define MCU_EVEN (0x7fff - (128 << 16))

/* The words of two taps times their weights: of all such sums `both` is the sum, `upper` that of their upper halves. */
#define MCU_TWO_TAPS(both, upper, x, y, u, v)                                                                           \
    do {                                                                                                               \
        const int32_t sum_ = MCU_EVEN + (x) * (u) + (y) * (v);                                                          \
        both += (uint32_t)sum_, upper += (uint32_t)(sum_ >> 16);                                                       \
    } while (0)

/* Sums of a channel: of the first position, of the second. */
typedef struct {
    int32_t first, second;
} mcu_sums;

/* Out of n sums of two taps; both lack the bias. */
static inline mcu_sums mcu_apart(uint32_t both, uint32_t upper, uint32_t n, int32_t bias) {
    const mcu_sums s = {(int32_t)(both - (upper << 16) - 0x7fffu * n + (uint32_t)bias),
                        (int32_t)(upper + 128u * n + (uint32_t)bias)};
    return s;
}

#if defined(__cplusplus)
}
#endif

#endif
