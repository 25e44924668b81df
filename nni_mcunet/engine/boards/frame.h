/* A ready mcu_read_tile for a whole RGB picture in memory (flash, SDRAM, the host). */
#ifndef MCU_FRAME_H
#define MCU_FRAME_H
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

typedef struct {
    const uint8_t *rgb; /* [h][width][3] */
    int width;
} mcu_frame;

/* Copies rows y.. and columns x.. as q = value - 128. context: a mcu_frame, dst: [h][w][3]. */
void mcu_read_frame(void *context, int y, int x, int h, int w, int8_t *dst);

#if defined(__cplusplus)
}
#endif

#endif
