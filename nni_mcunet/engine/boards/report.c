#include "report.h"
#include "crc.h"
#include "print.h"

static uint32_t crc32(const int8_t *bytes, int n) { /* bytes: [n] */
    uint32_t crc = 0xffffffffu;
    for (int i = 0; i < n; i++)
        crc = mcu_crc(crc, (uint8_t)bytes[i]);
    return ~crc;
}

static void print_work(const char *prefix, uint64_t count) {
    mcu_print("{\"");
    mcu_print(prefix);
    mcu_print(mcu_unit);
    mcu_print_pair("\": ", (int64_t)count);
    if (mcu_clock_hz()) {
        mcu_print(", \"");
        mcu_print(prefix);
        mcu_print_pair("microseconds\": ", (int64_t)(count * 1000000 / mcu_clock_hz()));
    }
}

static void print_output(int i) {
    mcu_print_pair("{\"output\": ", i);
    mcu_print_pair(", \"crc32\": ", crc32(mcu_output(i), mcu_output_bytes(i)));
    mcu_print(", \"hex\": \"");
    mcu_print_hex(mcu_output(i), mcu_output_bytes(i));
    mcu_print("\"}\n");
}

#if defined(MCU_DETECTOR)
static void print_boxes(void) {
    static mcu_box boxes[MCU_MOST_BOXES];
    const uint64_t start = mcu_count();
    const int n = mcu_detect(boxes, MCU_MOST_BOXES);
    print_work("detect_", mcu_count() - start);
    for (int i = 0; i < n; i++) {
        mcu_print_pair("}\n{\"box\": [", boxes[i].x1);
        mcu_print_pair(", ", boxes[i].y1);
        mcu_print_pair(", ", boxes[i].x2);
        mcu_print_pair(", ", boxes[i].y2);
        mcu_print_pair("], \"score\": ", boxes[i].score);
        mcu_print_pair(", \"label\": ", boxes[i].label);
        mcu_print(", \"name\": \"");
        mcu_print_json(mcu_class_names[boxes[i].label]);
        mcu_put('"');
    }
    mcu_print("}\n");
}
#endif

void mcu_report(mcu_read_tile read, void *context) {
    const uint64_t start = mcu_count();
    mcu_run(read, context);
    print_work("", mcu_count() - start);
    mcu_print("}\n");
    for (int i = 0; i < MCU_OUTPUTS; i++)
        print_output(i);
#if defined(MCU_DETECTOR)
    print_boxes();
#endif
    mcu_print_pair("{\"stack_bytes\": ", mcu_stack_bytes());
    mcu_print(", \"done\": true}\n");
}
