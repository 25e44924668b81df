/* A ready mcu_read_tile for a network that was trained on letterboxed pictures (MCU_LETTERBOX): it puts a picture of
 * another shape, which any other callback reads, at the top left of the network's image, and fills the rest. */
#ifndef MCU_LETTERBOX_H
#define MCU_LETTERBOX_H
#include "mcu_model.h"

#if defined(__cplusplus)
extern "C" {
#endif

enum { MCU_LETTERBOX_OK, MCU_LETTERBOX_SIZE }; /* SIZE: the picture is empty or larger than the network's image */

typedef struct {
    mcu_read_tile read; /* of the picture: mcu_read_rgb, mcu_read_lines, mcu_read_jpeg or your own */
    void *context;      /* its own */
    int height, width;  /* of the picture; one of them is MCU_INPUT_H or MCU_INPUT_W where it is as large as it fits */
    int error;          /* one of the above, to be read after mcu_run */
} mcu_letterbox;

/* Boxes need no offset: pixel (y, x) of the network's image is that of the picture. context: a mcu_letterbox, dst:
 * [h][w][MCU_INPUT_C]; after an error the tile is grey. */
void mcu_read_letterbox(void *context, int y, int x, int h, int w, int8_t *dst);

#if defined(__cplusplus)
}
#endif

#endif
