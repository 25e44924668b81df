/* Ready mcu_read_tile functions for whole pictures in memory that are not as the network reads them (that: frame.h). */
#ifndef MCU_FRAMES_H
#define MCU_FRAMES_H
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

typedef struct {
    const uint8_t *pixels; /* [h][stride]: grey, RGB or RGB565, two bytes; may point into a larger picture */
    int stride;            /* bytes from one row to the next */
    int high_first;        /* RGB565: the high byte stands first, as cameras send it; 0: as a CPU writes a uint16_t */
} mcu_frame_bytes;

/* context: a mcu_frame_bytes, dst: [h][w][MCU_INPUT_C]. Grey becomes every channel. */
void mcu_read_rgb(void *context, int y, int x, int h, int w, int8_t *dst);
void mcu_read_grey(void *context, int y, int x, int h, int w, int8_t *dst);
void mcu_read_rgb565(void *context, int y, int x, int h, int w, int8_t *dst);

#if defined(__cplusplus)
}
#endif

#endif
