/* The depth-wise convolution of mcu_dw_mve.c with TensorFlow Lite's rounding. */
#define MCU_TWICE
#include "mcu_dw_mve.c"
