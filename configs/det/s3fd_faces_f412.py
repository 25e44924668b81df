# The same at 384x256 for the STM32F412. It takes the STM32H743's weights as they are: mcunet deploy
# configs/det/s3fd_faces_f412.py work_dirs/s3fd_faces_h743/last.pth --boards stm32f412 -o out/faces
_base_ = "./s3fd_faces_h743.py"

expected = dict(map50=0.246, easy=0.855, medium=0.731, hard=0.294, tolerance=0.03)
model = dict(backbone=dict(arch=dict(resolution=[256, 384])))
