#include "mcu_frames.h"
#include "mcu_pixel.h"

void mcu_read_grey(void *context, int y, int x, int h, int w, int8_t *dst) {
    const mcu_frame_bytes *frame = context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = frame->pixels + (y + i) * frame->stride + x;
        for (int j = 0; j < w; j++)
            for (int c = 0; c < MCU_INPUT_C; c++)
                *dst++ = MCU_PIXEL(c, src[j]);
    }
}

void mcu_read_rgb(void *context, int y, int x, int h, int w, int8_t *dst) {
    const mcu_frame_bytes *frame = context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = frame->pixels + (y + i) * frame->stride + 3 * x;
        for (int j = 0; j < w; j++, src += 3)
            dst = mcu_pixel(src[0], src[1], src[2], dst);
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
