/* picture.rgb, [MCU_INPUT_H][MCU_INPUT_W][MCU_INPUT_C] bytes, or an empty file where the program has no picture built in. */
.section .picture, "a"
.balign 4
.global mcu_picture, mcu_picture_bytes
mcu_picture_bytes:
.long end - mcu_picture
mcu_picture:
.incbin "picture.rgb"
end:
#if !defined(__arm__)
.section .note.GNU-stack, "", %progbits
#endif
