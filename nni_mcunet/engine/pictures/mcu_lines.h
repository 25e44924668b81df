/* A ready mcu_read_tile for RGB565 camera lines: they arrive one after the other, by DMA interrupt or polling, and a
 * ring keeps as many as the plan may still ask for. sizeof(mcu_lines) is all the SRAM there is beside the DMA's buffer.
 *
 * A camera does not wait. While the network computes a row of patches the ring fills, and a line that finds no room is
 * gone until the next frame. So either the camera is slower than the network, or the picture is put together from
 * strips of several frames (`frames`), or the read ends in MCU_LINES_LOST: never in wrong pixels. */
#ifndef MCU_LINES_H
#define MCU_LINES_H
#include "mcu_model.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* ORDER: rows that the ring has let go; SIZE: columns that a letterboxed picture has not, see mcu_letterbox.h */
enum { MCU_LINES_OK, MCU_LINES_LOST, MCU_LINES_TIMEOUT, MCU_LINES_ORDER, MCU_LINES_SIZE };

typedef struct {
    int first_line, first_column; /* of the camera's frame: pixel (y, x) of the picture is its pixel */
    int step;                     /* (first_line + y * step, first_column + x * step); 0 is taken for 1 */
    int high_first;               /* the camera sends the high byte first (OV2640, OV5640, OV7670 by default) */
    int frames;                   /* most frames that one picture may come from; 1 (or 0): all of it from the first */
#if defined(MCU_LETTERBOX)
    int width; /* of the picture, as in the mcu_letterbox that reads it; 0: MCU_INPUT_W */
#endif
    int (*wait)(void *user); /* called while a line is missing: sleeps, or fetches one; not 0 gives up. Null: spins */
    void *user;
    int error;                  /* one of the above, to be read after mcu_run */
    volatile int over;          /* the last of the frames has lost a line */
    volatile int written, kept; /* rows put; first row still wanted */
    volatile int line, frame;   /* of the camera; frame 0: not started */
    uint8_t ring[MCU_PICTURE_ROWS(1)][MCU_INPUT_W][2];
} mcu_lines;

/* Before mcu_run: forgets the last picture. The picture begins with the next frame that mcu_lines_frame announces. */
void mcu_lines_start(mcu_lines *lines);
/* These three belong into the camera's interrupts: a frame begins (VSYNC); its next line is in memory; data was lost
 * (an overrun of the camera interface), which makes the rest of this frame worthless. src: [camera's columns][2]. */
void mcu_lines_frame(mcu_lines *lines);
void mcu_lines_put(mcu_lines *lines, const uint8_t *src);
void mcu_lines_overrun(mcu_lines *lines);

/* context: a mcu_lines, dst: [h][w][MCU_INPUT_C]; after an error the tile is grey. */
void mcu_read_lines(void *context, int y, int x, int h, int w, int8_t *dst);

#if defined(__cplusplus)
}
#endif

#endif
