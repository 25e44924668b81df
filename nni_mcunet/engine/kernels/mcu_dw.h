/* Inside of the depth-wise convolution: mcu_dw.c and, with the DSP extension, mcu_dw_dsp.c. */
#ifndef MCU_DW_H
#define MCU_DW_H
#include "mcu_mve.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* One call: its arguments, and the columns of a row: a total of cols, lo..hi-1 from the input, padding around them. */
typedef struct {
    const mcu_conv *op;
    const mcu_axis *y, *x;
    const int8_t *in, *res;
    int8_t *out, *ring; /* ring: [rows][cols], or of the fast version int16 [][] */
    int cols, lo, hi;
    int step; /* columns from one window to the next */
} mcu_job;

#if defined(MCU_DSP)
int MCU_ROUNDED(mcu_dw_is_fast)(const mcu_conv *op);
void MCU_ROUNDED(mcu_dw_fast)(const mcu_job *job); /* without residual */
#endif
#if defined(MCU_MVE)
int MCU_ROUNDED(mcu_dw_has_vectors)(const mcu_job *job);
void MCU_ROUNDED(mcu_dw_vectors)(const mcu_job *job);
#endif

#if defined(__cplusplus)
}
#endif

#endif
