"""Read data sets for mmdet: their files, their pictures, what is wrong with them, and anchors for them."""
