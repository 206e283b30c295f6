"""The figures that every table of quality shows, in percent, and their titles."""

FIGURES = {"miou": "mIoU", "person_iou": "person IoU", "boundary_f": "boundary F", "sc": "SC"}
