"""Workshop: data sets on disk, and the frames a quantizer is shown. Never on the board.

dataset, clips       pictures, labels and clips, read from lists and folders
sources, sampling    looking through a source; which frames are picked
frames               the whole of it: picked, prepared as the runtime prepares them
leaks                what is judged on must be strangers to it
manifest             what was seen, written down
contact_sheet        the same on a page, to look at
"""
