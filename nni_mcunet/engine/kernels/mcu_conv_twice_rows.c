/* The convolutions of mcu_conv_rows.c with TensorFlow Lite's rounding. */
#define MCU_TWICE
#include "mcu_conv_rows.c"
