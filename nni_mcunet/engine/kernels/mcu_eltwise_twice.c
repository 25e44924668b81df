/* The sums and products of mcu_eltwise.c with TensorFlow Lite's rounding. */
#define MCU_TWICE
#include "mcu_eltwise.c"
