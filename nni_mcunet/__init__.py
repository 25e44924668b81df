"""MCUNetV2 (Lin et al., NeurIPS 2021): networks searched, trained and compiled to int8 C for microcontrollers.

`core` says what a network is and whether it fits, `search` is the NNI plug-in, `engine` the compiler and C runtime.
"""
