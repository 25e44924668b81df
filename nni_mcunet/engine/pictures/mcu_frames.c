#include "mcu_frames.h"
#include "mcu_pixel.h"

void mcu_read_grey(void *context, int y, int x, int h, int w, int8_t *dst) {
    const mcu_frame_bytes *frame = context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = frame->pixels + (y + i) * frame->stride + x;
        for (int j = 0; j < w; j++)
            for (int c = 0; c < MCU_INPUT_C; c++)
                *dst++ = (int8_t)(src[j] - 128);
    }
}

void mcu_read_rgb565(void *context, int y, int x, int h, int w, int8_t *dst) {
    const mcu_frame_bytes *frame = context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = frame->pixels + (y + i) * frame->stride + 2 * x;
        for (int j = 0; j < w; j++)
            dst = mcu_pixel_rgb565(src + 2 * j, frame->high_first, dst);
    }
}
