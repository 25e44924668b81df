/* The model as a WebAssembly module: what the script of a page asks for. */
#include "mcu_model.h"

#define CALLED(name) __attribute__((export_name(#name)))

static uint8_t image[MCU_INPUT_H * MCU_INPUT_W * MCU_INPUT_C]; /* bytes of the picture, as its view gives them */

static void read_image(void *context, int y, int x, int h, int w, int8_t *dst) {
    (void)context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = image + ((y + i) * MCU_INPUT_W + x) * MCU_INPUT_C;
        for (int j = 0; j < w * MCU_INPUT_C; j++)
            *dst++ = MCU_PIXEL(j % MCU_INPUT_C, src[j]);
    }
}

CALLED(image) uint8_t *page_image(void) { return image; }
CALLED(run) void page_run(void) { mcu_run(read_image, 0); }
CALLED(output) const int8_t *page_output(int i) { return mcu_output(i); }
CALLED(output_bytes) int page_output_bytes(int i) { return mcu_output_bytes(i); }

#if defined(MCU_DETECTOR)
static mcu_box boxes[MCU_MOST_BOXES];

CALLED(detect) int page_detect(void) { return mcu_detect(boxes, MCU_MOST_BOXES); }
CALLED(boxes) const mcu_box *page_boxes(void) { return boxes; }
CALLED(class_name) const char *page_class_name(int label) { return mcu_class_names[label]; }
#endif
