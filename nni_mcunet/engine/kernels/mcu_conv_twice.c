/* The convolutions of mcu_conv.c with TensorFlow Lite's rounding. */
#define MCU_TWICE
#include "mcu_conv.c"
