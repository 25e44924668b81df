/* One run of the model, reported in JSON lines. */
#ifndef MCU_REPORT_H
#define MCU_REPORT_H
#include "mcu_model.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* Lines: the run's work (and microseconds, where there is a clock), each output with its CRC-32, a detector's work and
 * boxes, then the stack and "done". */
void mcu_report(mcu_read_tile read, void *context);

#if defined(__cplusplus)
}
#endif

#endif
