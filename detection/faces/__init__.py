"""Do WIDER FACE: its files, augmentation, the multi-scale test, the protocol and its metric."""
