/* Runs the model once on the picture in .picture, reports and ends. */
#define MCU_FRAME_HOLDS_Q
#include "frame.h"
#include "port.h"
#include "report.h"

extern const uint8_t mcu_picture[]; /* [MCU_INPUT_H][MCU_INPUT_W][MCU_INPUT_C] */

int main(void) {
    mcu_frame frame = {mcu_picture, MCU_INPUT_W};
    mcu_report(mcu_read_frame, &frame);
    mcu_exit(0);
    return 0;
}
