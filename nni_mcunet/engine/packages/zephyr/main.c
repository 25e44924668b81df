/* Runs the network on a grey picture and prints its first output. Give it yours in read_picture, or take one of the
 * ready callbacks: frame.h, mcu_frames.h, mcu_lines.h, mcu_jpeg.h. */
#include <stddef.h>
#include <zephyr/kernel.h>
#include "${prefix}_model.h"

/* Rows y to y+h, columns x to x+w of the picture. ${PREFIX}_PIXEL makes the network's integer of a byte. */
static void read_picture(void *ctx, int y, int x, int h, int w, int8_t *dst) {
    (void)ctx, (void)y, (void)x;
    for (int i = 0; i < h * w; i++)
        for (int c = 0; c < ${PREFIX}_INPUT_C; c++)
            *dst++ = ${PREFIX}_PIXEL(c, 128);
}

int main(void) {
    ${prefix}_run(read_picture, NULL);
    const int8_t *output = ${prefix}_output(0); /* ${prefix}_model.h says its scale */
    for (int i = 0; i < ${prefix}_output_bytes(0) && i < 10; i++)
        printk("%d\n", output[i]);
    return 0;
}
