"""Workshop: our network, its loss, training and export. Never on the board.

collection, store    the pictures of a run, rendered ahead
augment              samples made of them; cards, outlines: what is drawn into them
teachers             other networks' masks as targets
shapes               the networks a recipe can name
network              ours; growth, pruning: from a smaller or a wider one
pphumanseg           the paper's, as published
loss, connectivity   what is trained for (SCL)
recipe               a run's settings
state, checkpoint    a run between two steps, and its files
fit                  the loop; batches, processes, judge, curves belong to it
export               a trained network as ONNX
"""
