/* picture.rgb, [MCU_INPUT_H][MCU_INPUT_W][3] bytes, or an empty file where the program has no picture built in. */
.section .picture, "a"
.global mcu_picture, mcu_picture_end
mcu_picture:
.incbin "picture.rgb"
mcu_picture_end:
.section .note.GNU-stack, "", %progbits
