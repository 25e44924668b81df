/* One pixel into a tile: three channels, or the luma of a network that reads grey. */
#ifndef MCU_PIXEL_H
#define MCU_PIXEL_H
#include "mcu_model.h"

#if defined(__cplusplus)
extern "C" {
#endif

#if MCU_INPUT_C != 3 && MCU_INPUT_C != 1
#error "not RGB or grey: take mcu_read_frame, or write a callback"
#endif

/* r, g, b: 0..255, dst: [MCU_INPUT_C]. Returns the end of dst. */
static inline int8_t *mcu_pixel(int r, int g, int b, int8_t *dst) {
#if MCU_INPUT_C == 3
    *dst++ = MCU_PIXEL(0, r);
    *dst++ = MCU_PIXEL(1, g);
    *dst++ = MCU_PIXEL(2, b);
#else
    *dst++ = MCU_PIXEL(0, (19595 * r + 38470 * g + 7471 * b + 32768) / 65536); /* ITU-R BT.601 */
#endif
    return dst;
}

/* src: [2], the high byte first where `high_first`, as cameras send RGB565. Bits repeat below: 31 becomes 255. */
static inline int8_t *mcu_pixel_rgb565(const uint8_t *src, int high_first, int8_t *dst) {
    const int v = high_first ? src[0] << 8 | src[1] : src[1] << 8 | src[0];
    const int r = v >> 11, g = v >> 5 & 63, b = v & 31;
    return mcu_pixel(r << 3 | r >> 2, g << 2 | g >> 4, b << 3 | b >> 2, dst);
}

#if defined(__cplusplus)
}
#endif

#endif
