"""The workshop: a trained network becomes a bundle, or is refused with the reason.

`conversion.convert(job, target)` is the whole of it; one module per step:

    onnx       read a file from outside          head       one person logit out
    rewrites   float-exact graph changes         tflite     float and int8 artifacts
    guards     dead layers, overflowed biases    gate       quality against float
    reference  the network as it came            family     networks whose contract is known
"""
