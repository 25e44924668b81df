/* Runs the model once on the picture in .picture and reports in JSON lines. */
#include "frame.h"
#include "mcu_model.h"
#include "print.h"

extern const uint8_t mcu_picture[]; /* [MCU_INPUT_H][MCU_INPUT_W][3] */

static void print_pair(const char *name, int64_t value) {
    mcu_print(name);
    mcu_print_int(value);
}

static uint32_t crc32(const int8_t *bytes, int n) { /* bytes: [n] */
    uint32_t crc = 0xffffffffu;
    for (int i = 0; i < n; i++) {
        crc ^= (uint8_t)bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

int main(void) {
    mcu_frame frame = {mcu_picture, MCU_INPUT_W};
    uint64_t start = mcu_instructions();
    mcu_run(mcu_read_frame, &frame);
    print_pair("{\"instructions\": ", (int64_t)(mcu_instructions() - start));
    for (int i = 0; i < MCU_OUTPUTS; i++) {
        print_pair("}\n{\"output\": ", i);
        print_pair(", \"crc32\": ", crc32(mcu_output(i), mcu_output_bytes(i)));
        mcu_print(", \"hex\": \"");
        mcu_print_hex(mcu_output(i), mcu_output_bytes(i));
        mcu_put('"');
    }
#if defined(MCU_DETECTOR)
    static mcu_box boxes[MCU_MOST_BOXES];
    start = mcu_instructions();
    const int n = mcu_detect(boxes, MCU_MOST_BOXES);
    print_pair("}\n{\"detect_instructions\": ", (int64_t)(mcu_instructions() - start));
    for (int i = 0; i < n; i++) {
        print_pair("}\n{\"box\": [", boxes[i].x1);
        print_pair(", ", boxes[i].y1);
        print_pair(", ", boxes[i].x2);
        print_pair(", ", boxes[i].y2);
        print_pair("], \"score\": ", boxes[i].score);
        print_pair(", \"label\": ", boxes[i].label);
        mcu_print(", \"name\": \"");
        mcu_print(mcu_class_names[boxes[i].label]);
        mcu_put('"');
    }
#endif
    print_pair("}\n{\"stack_bytes\": ", mcu_stack_bytes());
    mcu_print(", \"done\": true}\n");
    mcu_exit(0);
    return 0;
}
