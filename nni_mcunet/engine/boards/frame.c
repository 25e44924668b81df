#include "frame.h"
#include "mcu_model.h"

_Static_assert(MCU_INPUT_C == 3, "pictures have three channels: call mcu_run with a reading function of your own");

void mcu_read_frame(void *context, int y, int x, int h, int w, int8_t *dst) {
    const mcu_frame *frame = context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = frame->rgb + ((y + i) * frame->width + x) * 3;
        for (int j = 0; j < 3 * w; j++)
            *dst++ = (int8_t)(src[j] - 128);
    }
}
