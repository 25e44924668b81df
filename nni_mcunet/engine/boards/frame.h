/* A ready mcu_read_tile for the network's own integers in memory (flash, SDRAM, the host). A picture's bytes are these only
 * where MCU_PIXEL is byte - 128; mcu_read_rgb and mcu_read_grey of mcu_frames.h take them for every network. */
#ifndef MCU_FRAME_H
#define MCU_FRAME_H
#include "mcu_model.h"
#include <stdint.h>

#if defined(MCU_PIXEL_IS_TABLE) && !defined(MCU_FRAME_HOLDS_Q)
#warning                                                                                                               \
    "a picture's bytes go through mcu_read_rgb: MCU_PIXEL is a table. Define MCU_FRAME_HOLDS_Q where a frame holds q + 128."
#endif

#if defined(__cplusplus)
extern "C" {
#endif

typedef struct {
    const uint8_t *pixels; /* [h][width][MCU_INPUT_C]: q + 128, RGB, grey, or what else the network reads */
    int width;             /* pixels from one row to the next */
} mcu_frame;

/* Copies rows y.. and columns x.. as q = value - 128. context: a mcu_frame, dst: [h][w][MCU_INPUT_C]. */
void mcu_read_frame(void *context, int y, int x, int h, int w, int8_t *dst);

#if defined(__cplusplus)
}
#endif

#endif
