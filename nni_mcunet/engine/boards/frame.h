/* A ready mcu_read_tile for a whole picture in memory (flash, SDRAM, the host), as the network reads it. */
#ifndef MCU_FRAME_H
#define MCU_FRAME_H
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

typedef struct {
    const uint8_t *pixels; /* [h][width][MCU_INPUT_C]: RGB, grey, or what else the network reads, q + 128 */
    int width;
} mcu_frame;

/* Copies rows y.. and columns x.. as q = value - 128. Where MCU_PIXEL is another function, a picture's bytes go
 * through mcu_read_rgb or mcu_read_grey. context: a mcu_frame, dst: [h][w][MCU_INPUT_C]. */
void mcu_read_frame(void *context, int y, int x, int h, int w, int8_t *dst);

#if defined(__cplusplus)
}
#endif

#endif
