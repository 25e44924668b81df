/* The depth-wise convolution of mcu_dw.c with TensorFlow Lite's rounding. */
#define MCU_TWICE
#include "mcu_dw.c"
